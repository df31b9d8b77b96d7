//! Whether the server is ready, looked up again and again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::Server;
use aiki_subscriber_redis::RedisPublisher;
use tokio::sync::watch;
use tokio::time::Instant;

use super::measure;

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);
/// An answer of Redis that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(2);
/// When the last look is older, something is stuck.
const STALE: Duration = Duration::from_secs(10);

/// What was found, by the name of the part: `ok`, or why not.
#[derive(Clone, Debug)]
struct Found {
    at: Instant,
    parts: BTreeMap<&'static str, String>,
}

/// Looks after the parts of a server. Cloning is cheap.
#[derive(Clone)]
pub(crate) struct Checks {
    server: Server,
    redis: Option<RedisPublisher>,
    found: Arc<watch::Sender<Found>>,
}

const OK: &str = "ok";

fn told(answer: Result<(), String>) -> String {
    answer.err().unwrap_or_else(|| OK.to_owned())
}

impl Checks {
    /// With the result of a first look.
    pub(crate) async fn new(server: Server, redis: Option<RedisPublisher>) -> Self {
        let found = Arc::new(watch::Sender::new(Found { at: Instant::now(), parts: BTreeMap::new() }));
        let checks = Self { server, redis, found };
        checks.look().await;
        checks
    }

    /// Looks for ever, and does what is to be done from time to time.
    pub(crate) async fn run(self, upkeep: impl Fn() + Send) {
        loop {
            tokio::time::sleep(PAUSE).await;
            self.look().await;
            upkeep();
        }
    }

    async fn look(&self) {
        let redis = async {
            let redis = self.redis.as_ref()?;
            Some(match tokio::time::timeout(PATIENCE, redis.ping()).await {
                Ok(answer) => answer.map_err(|error| error.to_string()),
                Err(_) => Err(format!("Redis did not answer within {PATIENCE:?}")),
            })
        };
        let (health, redis) = tokio::join!(self.server.health(), redis);
        let mut parts = BTreeMap::from([("database", told(health.store))]);
        if let Some(redis) = redis {
            parts.insert("redis", told(redis));
            parts.insert("publisher", told(health.publisher));
        }
        measure::ready(!health.draining && parts.values().all(|part| part == OK));
        self.log_changes(&parts);
        self.found.send_replace(Found { at: Instant::now(), parts });
    }

    fn log_changes(&self, parts: &BTreeMap<&'static str, String>) {
        let before = self.found.borrow();
        for (part, now) in parts {
            match (before.parts.get(part).map(String::as_str), now.as_str()) {
                (Some(OK) | None, OK) => {}
                (Some(was), OK) if was != OK => tracing::info!(part, "answers again"),
                (Some(was), _) if was != OK => {}
                (_, reason) => tracing::warn!(part, reason, "not ready"),
            }
        }
    }

    /// What is to be told; the parts in `exclude` count as fine. The reasons may name hosts: without `details`
    /// they are left out.
    pub(crate) fn readiness(&self, draining: bool, exclude: &[&str], details: bool) -> Readiness {
        let found = self.found.borrow().clone();
        let mut parts = found.parts;
        if found.at.elapsed() > STALE {
            parts.insert("checks", format!("the last look is {} s ago", found.at.elapsed().as_secs()));
        }
        if draining {
            parts.insert("draining", "the server is about to stop".into());
        }
        parts.retain(|part, _| !exclude.contains(part));
        let ready = parts.values().all(|part| part == OK);
        if !details {
            parts.values_mut().filter(|part| *part != OK).for_each(|part| *part = "failed".into());
        }
        Readiness { ready, parts }
    }
}

/// The body of `/readyz`.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Readiness {
    pub(crate) ready: bool,
    parts: BTreeMap<&'static str, String>,
}

impl Readiness {
    /// Says so of a part that is not well.
    pub(crate) fn say(&mut self, part: &str, reason: &str) {
        if let Some(told) = self.parts.get_mut(part).filter(|told| *told != OK) {
            *told = reason.to_owned();
        }
    }
}
