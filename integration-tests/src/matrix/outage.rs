//! A Redis that is away for long.

use std::fmt;
use std::fs::File;
use std::time::{Duration, Instant};

use crate::chain::Chain;
use crate::evidence::once_and_not_again;
use crate::redis::{Proxy, RedisServer, command, connect};
use crate::rig::{Programs, Rig};
use crate::usage::Usage;
use crate::worker_process::WorkerProcess;

/// Between two starts of runs.
const EVERY: Duration = Duration::from_millis(200);
/// Runs before it goes away, and after it is back.
const AROUND: u64 = 50;
/// Log lines that are shown.
const MOST_TOLD: usize = 40;
/// How long anything else may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What it came to.
#[derive(Clone, Debug)]
pub struct OutageFigures {
    /// How long it was away.
    pub away: Duration,
    /// Runs that completed meanwhile.
    pub completed: usize,
    /// Attempts beyond one for each task.
    pub repeated: usize,
    /// Lines that server and worker logged meanwhile.
    pub lines: (usize, usize),
    /// Connections that server and worker tried to make meanwhile.
    pub connects: usize,
    /// Memory of the server after a tenth of the time, and in the end.
    pub server: (Usage, Usage),
    /// The same of the worker.
    pub worker: (Usage, Usage),
    /// From the return of Redis until the worker read from it.
    pub back: Duration,
    /// From the return of Redis until a run came through it.
    pub through: Duration,
}

impl fmt::Display for OutageFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |time: Duration| time.as_secs_f64();
        writeln!(
            f,
            "away for {:.0} s: {} runs completed, {} attempts repeated",
            seconds(self.away),
            self.completed,
            self.repeated
        )?;
        writeln!(f, "log lines meanwhile: server {}, worker {}", self.lines.0, self.lines.1)?;
        writeln!(f, "connections tried meanwhile: {}", self.connects)?;
        writeln!(f, "server after a tenth: {}\nserver at the end:    {}", self.server.0, self.server.1)?;
        writeln!(f, "worker after a tenth: {}\nworker at the end:    {}", self.worker.0, self.worker.1)?;
        write!(
            f,
            "read again after {:.1} s, a run came through it after {:.1} s",
            seconds(self.back),
            seconds(self.through)
        )
    }
}

/// Kills Redis for so long, under a worker that is given five runs a second.
///
/// # Panics
/// When a run does not complete, is executed after its record, or nobody finds Redis again.
#[allow(clippy::expect_used)]
pub async fn outage(programs: Programs, away: Duration) -> OutageFigures {
    let mut redis = RedisServer::start().await;
    let proxy = Proxy::to(redis.port()).await;
    let rig = Rig::start(programs, Some(proxy.url()), &[]).await;
    let log = rig.directory.path().join("worker.log");
    let (binary, arguments) = rig.worker_command("steady", &["--log", "--slots", "8", "--lease-ms", "60000"], &[]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let worker = WorkerProcess::start_logging(&binary, &arguments, File::create(&log).expect("a log"));
    let lines = || {
        let of_worker = std::fs::read_to_string(&log).expect("the log").lines().count();
        (rig.server.log().lines().count(), of_worker)
    };
    let mut runs = Vec::new();
    let mut next = async |count: u64| {
        for _ in 0..count {
            let chain = Chain { number: runs.len() as u64, tasks: 2, task_ms: 10 };
            runs.push(rig.run(chain).await);
            tokio::time::sleep(EVERY).await;
        }
        runs.len()
    };
    let usage = || (Usage::of(rig.server.id()).expect("it runs"), Usage::of(worker.id()).expect("it runs"));
    let before = next(AROUND).await;

    redis.kill();
    let (gone, lines_before, connects_before) = (Instant::now(), lines(), proxy.accepted());
    let each = |part: u32| (away / part).as_millis() as u64 / EVERY.as_millis() as u64;
    next(each(10)).await;
    let early = usage();
    let mut late = early;
    while gone.elapsed() < away {
        next(1).await;
        late = usage();
    }
    let (lines_after, connects) = (lines(), proxy.accepted() - connects_before);
    let during = next(0).await - before;
    let took = gone.elapsed();

    redis.restart().await;
    let up = Instant::now();
    let admin = connect(&redis.url()).await;
    let looking = async |what: &str| {
        let told: String = command(&admin, "INFO commandstats").await;
        let line = told.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{what}:calls=")));
        line.and_then(|rest| rest.split(',').next()?.parse::<u64>().ok()).unwrap_or_default()
    };
    let reads = async {
        while looking("xreadgroup").await == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        up.elapsed()
    };
    let back = tokio::time::timeout(PATIENCE, reads).await.expect("the worker reads from Redis again");
    // The server has to find it as well: with the first run that it announces.
    while looking("xadd").await == 0 {
        assert!(up.elapsed() < PATIENCE, "nothing is announced through Redis");
        next(1).await;
    }
    let through = up.elapsed();
    next(AROUND).await;
    let (server, of_worker) = ((early.0, late.0), (early.1, late.1));
    rig.complete(&runs, PATIENCE).await;
    let repeated = once_and_not_again(&runs, &rig.ledgers.begun).await;
    let lines = (lines_after.0 - lines_before.0, lines_after.1 - lines_before.1);
    let (of_server, of_worker_log) = (rig.server.log(), std::fs::read_to_string(&log).expect("the log"));
    let told = of_server.lines().skip(lines_before.0).take(lines.0);
    told.chain(of_worker_log.lines().skip(lines_before.1).take(lines.1))
        .take(MOST_TOLD)
        .for_each(|line| println!("{line}"));
    OutageFigures { away: took, completed: during, repeated, lines, connects, server, worker: of_worker, back, through }
}
