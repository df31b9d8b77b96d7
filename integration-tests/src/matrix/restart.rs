//! A server that is killed with many runs in its file.

use std::fmt;
use std::time::{Duration, Instant};

use futures::StreamExt;

use crate::chain::{self, Chain};
use crate::program::eventually;
use crate::redis::RedisServer;
use crate::rig::{Programs, Rig};
use crate::usage::Usage;

/// Starts at the same time: they share commits.
const AT_ONCE: usize = 512;
/// How often it is killed.
const KILLS: usize = 3;
/// How long the first run may take after the last start.
const PATIENCE: Duration = Duration::from_secs(60);

/// What it came to.
#[derive(Clone, Debug)]
pub struct RestartFigures {
    /// Queued runs in the file.
    pub runs: u64,
    /// From each start of the process until it said that it is ready.
    pub ready: Vec<Duration>,
    /// From the last start until a worker had executed one of the old runs.
    pub first_task: Duration,
    /// The server in the end.
    pub server: Usage,
}

impl fmt::Display for RestartFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ready: Vec<String> = self.ready.iter().map(|ready| format!("{:.2} s", ready.as_secs_f64())).collect();
        let (runs, ready, first) = (self.runs, ready.join(", "), self.first_task.as_secs_f64());
        write!(f, "{runs} runs: ready after {ready}; the first old task after {first:.2} s; {}", self.server)
    }
}

/// Kills and starts a server over a file with so many queued runs.
///
/// # Panics
/// When it does not come back, or has lost runs.
#[allow(clippy::expect_used)]
pub async fn restart(programs: Programs, runs: u64) -> RestartFigures {
    let directory = tempfile::tempdir().expect("a directory");
    let workflow = chain::define(None);
    {
        let server = aiki_server::Server::builder().sqlite(directory.path().join("aiki.db")).start().await;
        let server = server.expect("a server");
        let client = server.client();
        let start = |number| {
            let chain = Chain { number, tasks: 1, task_ms: 0 };
            let start = workflow.start(&client, chain).reference_id(format!("run-{number}"));
            async { start.await.expect("the run starts") }
        };
        futures::stream::iter(0..runs).map(start).buffer_unordered(AT_ONCE).for_each(async |_| ()).await;
        server.close().await;
    }
    let redis = RedisServer::start().await;
    let mut begun = Instant::now();
    let mut rig = Rig::over(programs, Some(redis.url()), &[], directory).await;
    let mut ready = Vec::new();
    loop {
        eventually("readiness", || (rig.server.get("/readyz").0 == 200).then_some(()));
        ready.push(begun.elapsed());
        if ready.len() > KILLS {
            break;
        }
        // While it announces the old runs.
        begun = Instant::now();
        rig.restart();
    }
    let client = crate::rig::connect(rig.port).await;
    assert_eq!(client.list_runs(Default::default()).count().await.expect("a count"), runs, "no run is lost");
    let _worker = rig.worker("late", &["--lease-ms", "20000"], &[]);
    let worked = async {
        while rig.ledgers.ended.attempts().expect("the ledger").is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, worked).await.expect("the worker works");
    let server = Usage::of(rig.server.id()).expect("it runs");
    RestartFigures { runs, ready, first_task: begun.elapsed(), server }
}
