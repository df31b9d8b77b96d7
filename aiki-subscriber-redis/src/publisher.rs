//! Announcing ready runs.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aiki_core::{PublishReport, Publisher, ReadyRun, SubscriberError};
use async_trait::async_trait;
use fred::interfaces::{ClientLike, StreamsInterface};
use fred::types::Value;
use futures::future::join_all;

use crate::classify::{Failure, Trouble};
use crate::io::IoThread;
use crate::key;
use crate::link::Link;
use crate::message::VERSION;
use crate::routes::Routes;
use crate::timing::Timing;
use crate::url::RedisUrl;

/// Runs in one pipeline.
const PIPELINE: usize = 500;
/// How often a run is sent on in a cluster whose nodes name each other.
const MAX_HOPS: usize = 3;

/// Announces ready runs to Redis Streams. Clones share the connections.
///
/// It connects when it is first used and keeps the connection, on a cluster one to each node, on a thread of its own.
/// While Redis is away every run is refused at once and nothing is kept for later: the server announces again.
#[derive(Clone)]
pub struct RedisPublisher {
    url: RedisUrl,
    kept: Arc<Mutex<Option<Arc<Kept>>>>,
}

struct Kept {
    io: IoThread,
    routes: Arc<Routes>,
}

/// One XADD.
#[derive(Clone)]
struct Entry {
    /// Where the answer belongs.
    at: usize,
    slot: u16,
    key: Arc<str>,
    run: String,
}

/// What is to be added for these runs.
fn entries(runs: &[ReadyRun]) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::with_capacity(runs.len());
    for (at, run) in runs.iter().enumerate() {
        let (pool, id) = (run.pool.as_ref(), run.id.to_string());
        // Runs that were started together are often of one kind.
        let entry = match (entries.last(), at.checked_sub(1).map(|before| &runs[before])) {
            (Some(last), Some(before)) if same_stream(before, run) => Entry { at, run: id, ..last.clone() },
            _ => Entry {
                at,
                slot: key::slot(&run.namespace, pool),
                key: key::stream(&run.namespace, pool, &run.workflow, run.priority).into(),
                run: id,
            },
        };
        entries.push(entry);
    }
    entries
}

fn same_stream(one: &ReadyRun, other: &ReadyRun) -> bool {
    (one.priority, &one.pool) == (other.priority, &other.pool)
        && (&one.namespace, &one.workflow) == (&other.namespace, &other.workflow)
}

impl RedisPublisher {
    /// A publisher to this Redis. Connects nowhere yet.
    pub fn new(url: RedisUrl) -> Self {
        Self { url, kept: Arc::default() }
    }

    /// Asks Redis for a sign of life, on a cluster the node of the URL. It takes no longer than a command may.
    ///
    /// Cancel safety: when the future is dropped, the question goes on in the background.
    ///
    /// # Errors
    /// [`SubscriberError`] when Redis did not answer.
    pub async fn ping(&self) -> Result<(), SubscriberError> {
        let kept = self.kept().await?;
        let link = kept.routes.seed();
        let asked = async move {
            let answer = link.ask(|client| async move { client.ping::<String>(None).await }).await;
            answer.map(drop).map_err(Failure::at_start)
        };
        kept.io.run(asked).await
    }

    /// The connections, made by the first call. Waits for that first one, not for later ones.
    async fn kept(&self) -> Result<Arc<Kept>, SubscriberError> {
        let timing = Timing { lease: Duration::from_secs(20), block: Duration::from_secs(1) };
        let (kept, patience) = {
            let mut place = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            match &*place {
                Some(kept) => (kept.clone(), Duration::ZERO),
                None => {
                    let io = IoThread::start("aiki-redis-publisher")?;
                    let routes = Arc::new(io.enter(|| Routes::new(self.url.clone(), timing)));
                    let kept = Arc::new(Kept { io, routes });
                    *place = Some(kept.clone());
                    (kept, timing.command())
                }
            }
        };
        if !patience.is_zero() {
            let link = kept.routes.seed();
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
            let entries = entries(part);
            let routes = kept.routes.clone();
            match kept.io.run(async move { Ok(send(&routes, entries).await) }).await {
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

/// Adds the entries, each where its hash slot is. The answers are in their order.
async fn send(routes: &Routes, entries: Vec<Entry>) -> Vec<Result<(), String>> {
    let mut results: Vec<Result<(), String>> = vec![Err(String::new()); entries.len()];
    let mut left = entries;
    for _ in 0..=MAX_HOPS {
        let mut groups: HashMap<_, (Link, Vec<Entry>)> = HashMap::new();
        for entry in left.drain(..) {
            let (node, link) = routes.of(entry.slot);
            groups.entry(node).or_insert_with(|| (link, Vec::new())).1.push(entry);
        }
        let sent = groups.into_iter().map(|(node, (link, entries))| async move {
            let answers = add(&link, &entries).await;
            (node, entries, answers)
        });
        for (node, entries, answers) in join_all(sent).await {
            for (entry, answer) in entries.into_iter().zip(answers) {
                match answer {
                    Ok(()) => results[entry.at] = Ok(()),
                    Err(failure) if failure.trouble == Trouble::Moved => {
                        results[entry.at] = Err(failure.text.clone());
                        match routes.moved(failure, &node).await {
                            Ok(()) => left.push(entry),
                            Err(failure) => results[entry.at] = Err(failure.text),
                        }
                    }
                    Err(failure) => results[entry.at] = Err(failure.text),
                }
            }
        }
        if left.is_empty() {
            break;
        }
    }
    results
}

/// One pipeline of XADDs; the answers are in their order.
async fn add(link: &Link, entries: &[Entry]) -> Vec<Result<(), Failure>> {
    let asked = |client: fred::clients::Client| async move {
        let pipeline = client.pipeline();
        for Entry { key, run, .. } in entries {
            let fields = vec![("v", VERSION), ("run", run.as_str())];
            pipeline.xadd::<(), _, _, _, _>(&**key, false, None::<()>, "*", fields).await?;
        }
        Ok(pipeline.try_all::<Value>().await)
    };
    let mut results: Vec<Result<(), Failure>> = match link.ask(asked).await {
        Ok(answers) => answers.into_iter().map(|answer| answer.map(drop).map_err(Failure::from)).collect(),
        Err(failure) => vec![Err(failure); entries.len()],
    };
    // A slot that has moved says nothing about the connection.
    let lost = |failure: &&Failure| failure.ends_connection() && failure.trouble != Trouble::Moved;
    if let Some(failure) = results.iter().filter_map(|result| result.as_ref().err()).find(lost) {
        link.give_up_after(failure);
    }
    // What has no answer was not confirmed.
    results.resize(entries.len(), Err(Failure::new(Trouble::Connection, "redis did not answer")));
    results
}
