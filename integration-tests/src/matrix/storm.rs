//! Many workers that start at once.

use std::fmt;
use std::time::{Duration, Instant};

use crate::chain::Chain;
use crate::evidence::once_and_not_again;
use crate::redis::{RedisServer, command, connect};
use crate::rig::{Programs, Rig};
use crate::worker_process::WorkerProcess;

/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);
/// How long the storm is watched when all are ready.
const CALM: Duration = Duration::from_secs(3);

/// What it came to.
#[derive(Clone, Copy, Debug)]
pub struct StormFigures {
    /// Worker processes.
    pub workers: usize,
    /// From the first start until each of them waits for runs.
    pub ready: Duration,
    /// Connections to Redis that were made until then.
    pub connects: u64,
    /// The most that were made within a second.
    pub connects_per_second: u64,
    /// Requests to the server until then.
    pub requests: u64,
    /// Requests per second afterwards, with nothing to do.
    pub idle_per_second: u64,
    /// Attempts beyond one for each task.
    pub repeated: usize,
    /// From the end of all to the last process.
    pub stopped: Duration,
}

impl fmt::Display for StormFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { workers, ready, connects, connects_per_second, requests, idle_per_second, repeated, stopped } = self;
        write!(
            f,
            "{workers} workers ready after {:.1} s; {connects} connections to Redis, {connects_per_second} in the fullest \
             second; {requests} requests to the server, afterwards {idle_per_second} per second; {repeated} attempts \
             repeated; all ended in {:.1} s",
            ready.as_secs_f64(),
            stopped.as_secs_f64()
        )
    }
}

/// Starts so many workers at once, and gives them two runs each, which are executed once.
///
/// # Panics
/// When a worker does not come, a run is executed twice, or a worker does not end.
#[allow(clippy::expect_used)]
pub async fn storm(programs: Programs, workers: usize) -> StormFigures {
    let redis = RedisServer::start().await;
    let admin = connect(&redis.url()).await;
    let rig = Rig::start(programs, Some(redis.url()), &[]).await;
    let made = async || {
        let info: String = command(&admin, "INFO stats").await;
        let line = info.lines().find_map(|line| line.strip_prefix("total_connections_received:"));
        line.and_then(|count| count.trim().parse::<u64>().ok()).expect("a count")
    };
    let waiting = async || {
        let clients: String = command(&admin, "CLIENT LIST").await;
        clients.lines().filter(|client| client.contains(" cmd=xreadgroup ")).count()
    };
    let first = made().await;
    let begun = Instant::now();
    let commands: Vec<_> = (0..workers)
        .map(|number| rig.worker_command(&format!("w{number}"), &["--lease-ms", "20000", "--request-ms", "5000"], &[]))
        .collect();
    let spawning = tokio::task::spawn_blocking(move || {
        let launch = |(binary, arguments): &(String, Vec<String>)| WorkerProcess::launch(binary, arguments);
        commands.iter().map(launch).collect::<Vec<_>>()
    });
    let mut counts = vec![(Duration::ZERO, first)];
    loop {
        let ready = waiting().await;
        counts.push((begun.elapsed(), made().await));
        if ready >= workers {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{ready} of {workers} workers wait for runs");
        tokio::time::sleep(PAUSE).await;
    }
    let ready = begun.elapsed();
    let processes = spawning.await.expect("all are started");
    let requests = rig.metric("aiki_requests_total", "");
    tokio::time::sleep(CALM).await;
    let idle = rig.metric("aiki_requests_total", "") - requests;

    let mut runs = Vec::new();
    for number in 0..2 * workers as u64 {
        runs.push(rig.run(Chain { number, tasks: 2, task_ms: 20 }).await);
    }
    rig.complete(&runs, PATIENCE).await;
    let repeated = once_and_not_again(&runs, &rig.ledgers.begun).await;
    let told = Instant::now();
    processes.iter().for_each(WorkerProcess::terminate);
    for mut process in processes {
        assert_eq!(process.ended().code(), Some(0));
    }
    let within_a_second = |(at, before): &(Duration, u64)| {
        let later = counts.iter().take_while(|(end, _)| *end <= *at + Duration::from_secs(1)).last();
        later.map_or(0, |(_, count)| count - before)
    };
    StormFigures {
        workers,
        ready,
        connects: counts.last().map_or(0, |(_, count)| count - first),
        connects_per_second: counts.iter().map(within_a_second).max().unwrap_or_default(),
        requests,
        idle_per_second: idle / CALM.as_secs(),
        repeated,
        stopped: told.elapsed(),
    }
}
