//! Announcing ready runs.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aiki_core::{PublishReport, Publisher, ReadyRun, SubscriberError};
use async_trait::async_trait;
use fred::interfaces::StreamsInterface;
use fred::types::Value;

use crate::classify::Failure;
use crate::health::Counters;
use crate::io::IoThread;
use crate::key;
use crate::link::{Link, Role};
use crate::message::VERSION;
use crate::timing::Timing;
use crate::url::RedisUrl;

/// Runs in one pipeline.
const PIPELINE: usize = 500;

/// Announces ready runs to Redis Streams. Clones share the connection.
///
/// It connects when it is first used and keeps the connection on a thread of its own. While Redis is away every run is
/// refused at once and nothing is kept for later: the server announces again.
#[derive(Clone)]
pub struct RedisPublisher {
    url: RedisUrl,
    kept: Arc<Mutex<Option<Arc<Kept>>>>,
}

struct Kept {
    io: IoThread,
    link: Link,
}

impl RedisPublisher {
    /// A publisher to this Redis. Connects nowhere yet.
    pub fn new(url: RedisUrl) -> Self {
        Self { url, kept: Arc::default() }
    }

    /// The connection, made by the first call. Waits for that first one, not for later ones.
    async fn kept(&self) -> Result<Arc<Kept>, SubscriberError> {
        let timing = Timing { lease: Duration::from_secs(20), block: Duration::from_secs(1) };
        let (kept, patience) = {
            let mut place = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            match &*place {
                Some(kept) => (kept.clone(), Duration::ZERO),
                None => {
                    let io = IoThread::start("aiki-redis-publisher")?;
                    let url = self.url.clone();
                    let link = io.enter(|| Link::keep(url, timing, Role::Control, Arc::new(Counters::new())));
                    let kept = Arc::new(Kept { io, link });
                    *place = Some(kept.clone());
                    (kept, timing.command())
                }
            }
        };
        if !patience.is_zero() {
            let link = kept.link.clone();
            kept.io.run(async move { link.first(patience).await.map(drop).map_err(Failure::at_start) }).await?;
        }
        Ok(kept)
    }
}

impl fmt::Debug for RedisPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisPublisher").field("url", &self.url).finish_non_exhaustive()
    }
}

#[async_trait]
impl Publisher for RedisPublisher {
    async fn publish(&self, runs: &[ReadyRun]) -> PublishReport {
        let mut report = PublishReport::default();
        let refuse = |report: &mut PublishReport, runs: &[ReadyRun], error: &SubscriberError| {
            report.failed.extend(runs.iter().map(|run| (run.id, error.to_string())));
        };
        let kept = match self.kept().await {
            Ok(kept) => kept,
            Err(error) => {
                refuse(&mut report, runs, &error);
                return report;
            }
        };
        for part in runs.chunks(PIPELINE) {
            let entries: Vec<(String, String)> = part
                .iter()
                .map(|run| {
                    (key::stream(&run.namespace, run.pool.as_ref(), &run.workflow, run.priority), run.id.to_string())
                })
                .collect();
            let link = kept.link.clone();
            match kept.io.run(async move { add(&link, entries).await.map_err(SubscriberError::from) }).await {
                // Each command has an answer of its own.
                Ok(answers) => {
                    let failed = part.iter().zip(answers).filter_map(|(run, answer)| Some((run.id, answer.err()?)));
                    report.failed.extend(failed);
                }
                Err(error) => refuse(&mut report, part, &error),
            }
        }
        report
    }
}

/// One pipeline of XADDs; the answers are in their order.
async fn add(link: &Link, entries: Vec<(String, String)>) -> Result<Vec<Result<(), String>>, Failure> {
    let count = entries.len();
    let asked = |client: fred::clients::Client| async move {
        let pipeline = client.pipeline();
        for (key, run) in entries {
            let fields = vec![("v", VERSION.to_owned()), ("run", run)];
            pipeline.xadd::<(), _, _, _, _>(key, false, None::<()>, "*", fields).await?;
        }
        Ok(pipeline.try_all::<Value>().await)
    };
    let answers = link.ask(asked).await?;
    let mut lost = None;
    let mut results: Vec<Result<(), String>> = answers
        .into_iter()
        .map(|answer| {
            answer.map(drop).map_err(|error| {
                let failure = Failure::from(error);
                lost = lost.take().or_else(|| failure.ends_connection().then(|| failure.clone()));
                failure.text
            })
        })
        .collect();
    if let Some(failure) = lost {
        link.give_up_after(&failure);
    }
    // What has no answer was not confirmed.
    results.resize(count, Err("redis did not answer".into()));
    Ok(results)
}
