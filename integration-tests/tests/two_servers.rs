//! Two servers as processes on one Postgres and one Redis, one of which is frozen while work goes on through the other.
#![allow(clippy::expect_used, reason = "a panic is how a test fails")]

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use aiki::listing::RunFilter;
use aiki::prelude::*;
use aiki::run::RunState;
use aiki::run::record::{TransitionChange, TransitionRecord};
use aiki::{ClientConfig, Schedule, ScheduleHandle};
use integration_tests::chain::{self, Chain, Chains, Ledgers};
use integration_tests::evidence::once_and_not_again;
use integration_tests::program::Program;
use integration_tests::redis::{self, Proxy, RedisServer};
use integration_tests::worker_process::WorkerProcess;
use tempfile::TempDir;
use test_postgres::PostgresServer;
use tokio::time::{sleep, timeout};

const SERVER: &str = env!("CARGO_BIN_EXE_server-program");
const WORKER: &str = env!("CARGO_BIN_EXE_remote-worker");
/// How long a server stands still: longer than all leases and timers here, and than anything that a server, Postgres or
/// Redis waits for.
const FROZEN: Duration = Duration::from_secs(60);
/// How long a claim of a worker lasts.
const LEASE: Duration = Duration::from_secs(2);
/// Between two starts while one server is frozen, and between two occurrences of the schedule.
const EVERY: Duration = Duration::from_secs(4);
/// What a server that goes on has left to do, it does in this time.
const AFTERMATH: Duration = Duration::from_secs(6);
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

type Started = (RunHandle<u64, Failure>, Chain);
/// The answer to XPENDING: how many entries, the first, the last, and how many each consumer has.
type Pending = (u64, Option<String>, Option<String>, Option<Vec<(String, String)>>);

/// A server, a worker that knows no other one, and a client.
struct Side {
    server: Program,
    worker: WorkerProcess,
    client: Client,
}

struct Rig {
    postgres: PostgresServer,
    redis: RedisServer,
    directory: TempDir,
    ledgers: Ledgers,
    workflow: Chains,
}

impl Rig {
    async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let ledgers = Ledgers::in_directory(directory.path()).expect("the ledgers");
        let postgres = PostgresServer::start().await;
        Self { postgres, redis: RedisServer::start().await, directory, ledgers, workflow: chain::define(None) }
    }

    fn server(&self) -> Program {
        self.server_with(&[])
    }

    fn server_with(&self, flags: &[&str]) -> Program {
        let (database, redis) = (self.postgres.url(), self.redis.url());
        Program::start(SERVER, &[&["--database", &database, "--redis", &redis], flags].concat())
    }

    fn worker(&self, url: &str, name: &str, lease: Duration) -> WorkerProcess {
        let (redis, ledger) = (self.redis.url(), self.directory.path().to_str().expect("text"));
        let lease = lease.as_millis().to_string();
        let arguments = ["--url", url, "--id", name, "--ledger", ledger, "--redis", &redis, "--lease-ms", &lease];
        WorkerProcess::start(WORKER, &arguments)
    }

    fn attempts_of(&self, worker: &WorkerProcess) -> usize {
        let attempts = self.ledgers.begun.attempts().expect("the ledger");
        attempts.into_iter().filter(|attempt| attempt.process == worker.id()).count()
    }

    /// Waits until a worker has begun so many tasks.
    async fn attempted(&self, worker: &WorkerProcess, count: usize) {
        let working = async {
            while self.attempts_of(worker) < count {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, working).await.expect("the worker works");
    }

    async fn side(&self, name: &str) -> Side {
        let server = self.server();
        let url = format!("http://{}", server.address());
        let mut config = ClientConfig::new(url.clone());
        config.request_timeout = Duration::from_secs(1);
        config.retry_for = FROZEN * 2;
        let client = aiki::connect(config).await.expect("a client");
        Side { worker: self.worker(&url, name, LEASE), server, client }
    }

    async fn run(&self, client: &Client, chain: Chain) -> Started {
        let run = self.workflow.start(client, chain).reference_id(format!("run-{}", chain.number));
        (run.await.expect("the run starts"), chain)
    }

    async fn delayed(&self, client: &Client, chain: Chain, delay: Duration) -> Started {
        let run = self.workflow.start(client, chain).reference_id(format!("run-{}", chain.number)).delay(delay);
        (run.await.expect("the run starts"), chain)
    }

    /// The version of each row of a run that has ended: every write raises it.
    async fn ended_rows(&self) -> HashMap<String, i64> {
        let database = test_postgres::connect(&self.postgres.url(), "aiki").await;
        let asked = "SELECT id::text, version FROM runs WHERE ended_at IS NOT NULL";
        let rows = database.query(asked, &[]).await.expect("the rows");
        rows.into_iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// Entries of the streams that somebody was given and nobody has settled.
    async fn unsettled(&self) -> u64 {
        let redis = redis::connect(&self.redis.url()).await;
        let streams: Vec<String> = redis::command(&redis, "KEYS aiki:wf:*").await;
        let mut pending = 0;
        for stream in streams {
            let told: Pending = redis::command(&redis, &format!("XPENDING {stream} aiki-workers")).await;
            pending += told.0;
        }
        pending
    }
}

/// The same runs as another client sees them.
fn seen_by(client: &Client, workflow: &Chains, runs: &[Started]) -> Vec<Started> {
    runs.iter().map(|(run, chain)| (client.handle(workflow, run.id()), *chain)).collect()
}

async fn complete(runs: &[Started]) {
    for (run, chain) in runs {
        let output = timeout(PATIENCE, run.wait()).await.expect("the run ends in good time");
        assert_eq!(output.expect("the run completes"), chain.expected());
    }
}

async fn histories(runs: &[Started]) -> Vec<Vec<TransitionRecord>> {
    let mut told = Vec::new();
    for (run, _) in runs {
        told.push(run.transitions().await.expect("the history"));
    }
    told
}

/// Checks that a delayed run was made ready once, and not too early.
fn fired_once(history: &[TransitionRecord]) {
    let states = history.iter().filter_map(|transition| match &transition.change {
        TransitionChange::Run(state) => Some((transition.created_at, state)),
        TransitionChange::Task(..) => None,
    });
    let states: Vec<_> = states.collect();
    let fired: Vec<_> = states
        .windows(2)
        .filter_map(|pair| match pair {
            [(_, RunState::Scheduled { scheduled_at, .. }), (at, state)] => Some((*scheduled_at, *at, *state)),
            _ => None,
        })
        .collect();
    let [(due, at, RunState::Queued { .. })] = fired[..] else { panic!("it was to fire once: {states:?}") };
    assert!(at >= due, "it fired {due:?} at {at:?}");
}

/// Checks that each occurrence since the activation has one run. Answers them.
async fn occurrences(client: &Client, workflow: &Chains, schedule: &ScheduleHandle, chain: Chain) -> Vec<Started> {
    let record = schedule.record().await.expect("the schedule");
    let mut list = client.list_runs(RunFilter { schedule: Some(schedule.id()), ..RunFilter::default() });
    let (mut runs, mut references) = (Vec::new(), BTreeSet::new());
    while let Some(run) = list.next().await.expect("the list") {
        assert!(references.insert(run.reference_id), "an occurrence has two runs");
        runs.push((client.handle(workflow, run.id), chain));
    }
    assert_eq!(runs.len() as u64, record.run_count);
    let first = record.created_at.as_millis() + EVERY.as_millis() as u64;
    let last = record.last_occurrence.expect("it has fired").as_millis();
    let expected = (first..=last).step_by(EVERY.as_millis() as usize);
    let expected = expected.map(|at| Some(format!("schedule:{}:{at}", record.id)));
    assert_eq!(references, expected.collect(), "each occurrence has its run");
    runs
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_frozen_for_a_minute_writes_nothing_late_and_nothing_happens_twice() {
    let rig = Rig::start().await;
    let (late, other) = (rig.side("late").await, rig.side("other").await);
    let mut number = 0..;
    let mut next = |tasks, task_ms| Chain { number: number.next().expect("a number"), tasks, task_ms };

    // Work, timers and a schedule, all through the one that is about to freeze.
    let mut runs = Vec::new();
    for _ in 0..6 {
        runs.push(rig.run(&late.client, next(8, 300)).await);
    }
    let mut delayed = Vec::new();
    for seconds in [3, 8, 20] {
        delayed.push(rig.delayed(&late.client, next(2, 50), Duration::from_secs(seconds)).await);
    }
    let occurring = Chain { number: 1_000, tasks: 1, task_ms: 50 };
    let schedule = Schedule::every(EVERY).activate(&late.client, &rig.workflow, occurring).await.expect("a schedule");
    rig.attempted(&late.worker, 4).await;
    rig.attempted(&other.worker, 4).await;

    late.server.signal("-STOP");
    let since = Instant::now();
    // A start that the frozen one has in its sockets, again and again, until it goes on.
    let twice = next(2, 50);
    let stubborn = {
        let (client, workflow) = (late.client.clone(), rig.workflow.clone());
        tokio::spawn(async move { workflow.start(&client, twice).reference_id(format!("run-{}", twice.number)).await })
    };
    let from_other = other.client.schedule(schedule.id());
    let (mut runs, delayed) =
        (seen_by(&other.client, &rig.workflow, &runs), seen_by(&other.client, &rig.workflow, &delayed));
    runs.push(rig.run(&other.client, twice).await);
    while since.elapsed() < FROZEN {
        runs.push(rig.run(&other.client, next(3, 100)).await);
        sleep(EVERY.min(FROZEN.saturating_sub(since.elapsed()))).await;
    }
    // All of it is done before the frozen one goes on.
    complete(&runs).await;
    complete(&delayed).await;
    from_other.pause().await.expect("no more occurrences");
    let occurred = occurrences(&other.client, &rig.workflow, &from_other, occurring).await;
    assert!(occurred.len() as u64 >= FROZEN.as_secs() / EVERY.as_secs(), "{} occurrences", occurred.len());
    complete(&occurred).await;
    runs.extend(delayed.iter().map(|(run, chain)| (run.clone(), *chain)));
    runs.extend(occurred);
    assert!(!stubborn.is_finished(), "the frozen server answers nothing");
    let (told, rows) = (histories(&runs).await, rig.ended_rows().await);
    assert_eq!(rows.len(), runs.len(), "there are no other runs");
    let attempts = rig.ledgers.begun.attempts().expect("the ledger").len();
    println!("{} runs and {attempts} attempts in {:?}", runs.len(), since.elapsed());

    late.server.signal("-CONT");
    sleep(AFTERMATH).await;
    let found = timeout(PATIENCE, stubborn).await.expect("it answers again").expect("no panic");
    let found = found.expect("the run is found");
    assert!(found.existed() && runs.iter().any(|(run, _)| run.id() == found.id()), "it started the run again");
    assert_eq!(histories(&runs).await, told, "a run was written to after its end");
    assert_eq!(rig.ended_rows().await, rows, "a row was written late");
    assert_eq!(rig.ledgers.begun.attempts().expect("the ledger").len(), attempts, "a task was begun late");
    let again = once_and_not_again(&runs, &rig.ledgers.begun).await;
    println!("{again} attempts were begun again");
    assert!(again <= 4, "only what was under way when the server froze: {again}");
    for (run, _) in &delayed {
        fired_once(&run.transitions().await.expect("the history"));
    }
    assert_eq!(rig.unsettled().await, 0, "late announcements are settled");

    // It is of use again.
    drop(other);
    complete(&[rig.run(&late.client, next(2, 50)).await]).await;
}

/// So long a lease that nobody could go on in time if its end had to be waited for.
const LONG_LEASE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_whose_line_leads_to_another_server_now_keeps_its_runs_and_one_that_is_killed_does_not() {
    let rig = Rig::start().await;
    // More than a loaded machine needs to come back. With the question to the other server it is half as much again,
    // and the runs outlast that.
    let grace = ["--disconnect-grace", "1500ms"];
    let (one, two) = (rig.server_with(&grace), rig.server_with(&grace));
    let proxy = Proxy::to(one.address().port()).await;
    let moved = rig.worker(&format!("http://127.0.0.1:{}", proxy.port()), "moved", LONG_LEASE);
    let client = aiki::connect(ClientConfig::new(format!("http://{}", one.address()))).await.expect("a client");
    let mut runs = Vec::new();
    for number in 0..3 {
        runs.push(rig.run(&client, Chain { number, tasks: 30, task_ms: 250 }).await);
    }
    rig.attempted(&moved, 3).await;
    // It would take over whatever is taken back.
    let other = rig.worker(&format!("http://{}", one.address()), "other", LONG_LEASE);
    proxy.turn_to(two.address().port());
    rig.attempted(&moved, 45).await;
    let attempts = rig.ledgers.begun.attempts().expect("the ledger");
    let tasks: BTreeSet<_> = attempts.iter().map(|attempt| &attempt.task).collect();
    assert_eq!((rig.attempts_of(&other), attempts.len()), (0, tasks.len()), "nothing was taken from it");

    moved.kill();
    complete(&runs).await;
    assert!(rig.attempts_of(&other) > 0, "it went on with what the other had");
    let again = once_and_not_again(&runs, &rig.ledgers.begun).await;
    assert!((1..=3).contains(&again), "only what was cut short is begun twice: {again}");
}
