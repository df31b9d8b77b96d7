//! More runs and larger results than the memory of server and workers has room for.

use std::fmt;
use std::time::{Duration, Instant};

use futures::StreamExt;

use crate::burdens;
use crate::chain::Chain;
use crate::redis::RedisServer;
use crate::rig::{Programs, Rig};
use crate::usage::Usage;

/// Starts and waits at the same time.
const AT_ONCE: usize = 64;
/// What a client may wait for the end of everything, for each run.
const PATIENCE: Duration = Duration::from_secs(2);

/// How many, and how large.
#[derive(Clone, Copy, Debug)]
pub struct Crowd {
    /// Runs that are queued before anybody works.
    pub queued: u64,
    /// Runs with a large result.
    pub results: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// Addresses that the server and each worker may have, in MiB.
    pub limit_mb: u64,
    /// Runs that each of the two workers has at a time.
    pub slots: u64,
}

/// What it came to.
#[derive(Clone, Debug)]
pub struct CrowdFigures {
    /// The server when all was queued.
    pub queued: Usage,
    /// The server in the end.
    pub server: Usage,
    /// The workers in the end.
    pub workers: Vec<Usage>,
    /// Requests that the server refused because it had enough to do.
    pub refused: u64,
    /// From the first start to the last end.
    pub took: Duration,
}

impl fmt::Display for CrowdFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "server when all was queued: {}", self.queued)?;
        writeln!(f, "server in the end: {}", self.server)?;
        for worker in &self.workers {
            writeln!(f, "worker in the end: {worker}")?;
        }
        write!(f, "{} requests refused with 429, 503 or 507, all in {:.1} s", self.refused, self.took.as_secs_f64())
    }
}

/// Every run completes, and nobody ends for want of memory.
///
/// # Panics
/// When that is not so.
#[allow(clippy::expect_used)]
pub async fn crowd(programs: Programs, crowd: Crowd) -> CrowdFigures {
    let Crowd { queued, results, bytes, limit_mb, slots } = crowd;
    let redis = RedisServer::start().await;
    let limit = format!("--as={}", limit_mb << 20);
    let before = ["prlimit", &*limit];
    let mut rig = Rig::start(programs, Some(redis.url()), &before).await;
    let begun = Instant::now();
    let chain = |number| Chain { number, tasks: 1, task_ms: 0 };
    let here = &rig;
    let chains: Vec<_> =
        futures::stream::iter((0..queued).map(|n| here.run(chain(n)))).buffered(AT_ONCE).collect().await;
    let when_queued = Usage::of(rig.server.id()).expect("the server runs");
    let bulk = burdens::bulk();
    let start = |_| async { bulk.start(&here.client, bytes).await.expect("the run starts") };
    let bulks: Vec<_> = futures::stream::iter((0..results).map(start)).buffered(AT_ONCE).collect().await;

    let slots = slots.to_string();
    let more = ["--burdens", "--slots", &*slots, "--lease-ms", "20000", "--request-ms", "10000"];
    let mut workers = [rig.worker("one", &more, &before), rig.worker("two", &more, &before)];
    let patience = PATIENCE * u32::try_from(queued + results).unwrap_or(u32::MAX).max(30);
    let large = async {
        let ends = futures::stream::iter(&bulks).map(|run| run.wait()).buffer_unordered(AT_ONCE);
        ends.for_each(|end| async { assert_eq!(end.expect("the run completes"), bytes) }).await;
    };
    tokio::time::timeout(patience, large).await.expect("the runs with large results end in good time");
    rig.complete(&chains, patience).await;
    let took = begun.elapsed();

    let of = |id: u32| Usage::of(id).expect("nobody ended");
    let (server, of_workers) = (of(rig.server.id()), workers.iter().map(|worker| of(worker.id())).collect());
    let refused =
        ["429", "503", "507"].map(|status| rig.metric("aiki_requests_total", &format!("status=\"{status}\"")));
    assert_eq!(rig.ledgers.begun.attempts().expect("the ledger").len() as u64, queued, "a task was begun twice");
    for worker in &mut workers {
        worker.terminate();
        assert_eq!(worker.ended().code(), Some(0));
    }
    rig.server.signal("-TERM");
    assert_eq!(rig.server.ended().code(), Some(0), "{}", rig.server.log());
    CrowdFigures { queued: when_queued, server, workers: of_workers, refused: refused.iter().sum(), took }
}
