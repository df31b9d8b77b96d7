//! Server and workers as processes of their own that are killed, frozen and cut off from each other.
//!
//! Real time: a lease is two seconds unless a test says otherwise. How long a recovery took is printed and not judged.
#![allow(clippy::expect_used, reason = "a panic is how a test fails")]

use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aiki::ClientConfig;
use aiki::prelude::*;
use futures::StreamExt;
use integration_tests::chain::{self, Chain, Chains, Ledgers};
use integration_tests::evidence::{once_and_not_again, recorded_tasks};
use integration_tests::ledger::Attempt;
use integration_tests::program::{self, Program};
use integration_tests::redis::{Mode, Proxy, RedisServer};
use integration_tests::worker_process::WorkerProcess;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

const SERVER: &str = env!("CARGO_BIN_EXE_server-program");
const WORKER: &str = env!("CARGO_BIN_EXE_remote-worker");
/// How long a claim of a worker lasts here.
const LEASE: Duration = Duration::from_secs(2);
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// What the timers of a loaded machine may add.
const SLACK: Duration = Duration::from_secs(3);

/// A server with its file, whoever works for it, and a client.
struct Rig {
    directory: TempDir,
    port: u16,
    server: Option<Program>,
    ledgers: Ledgers,
    workflow: Chains,
    client: Client,
    redis: Option<String>,
    /// What the server is told beside its address and its file.
    flags: Vec<String>,
}

impl Rig {
    async fn start() -> Self {
        Self::with(None, &[]).await
    }

    async fn with_redis(redis: String) -> Self {
        let flags = ["--redis", &redis];
        Self::with(Some(redis.clone()), &flags).await
    }

    async fn with(redis: Option<String>, flags: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let ledgers = Ledgers::in_directory(directory.path()).expect("the ledgers");
        let (port, flags) = (free_port(), flags.iter().map(ToString::to_string).collect::<Vec<_>>());
        let server = Some(serve(&directory, port, &flags));
        let client = client(port).await;
        Self { directory, port, server, ledgers, workflow: chain::define(None), client, redis, flags }
    }

    /// Kills the server, if there is one, without warning and starts it again on the same file and port.
    fn kill_server(&mut self) {
        drop(self.server.take());
        self.server = Some(serve(&self.directory, self.port, &self.flags));
    }

    fn worker(&self, id: &str, more: &[&str]) -> WorkerProcess {
        self.worker_at(self.port, id, more)
    }

    /// A worker for which the server is at this port.
    fn worker_at(&self, port: u16, id: &str, more: &[&str]) -> WorkerProcess {
        let url = format!("http://127.0.0.1:{port}");
        let ledger = self.directory.path().to_str().expect("text");
        let mut arguments = vec!["--url", &url, "--id", id, "--ledger", ledger];
        if let Some(redis) = &self.redis {
            arguments.extend(["--redis", redis]);
        }
        arguments.extend(more);
        WorkerProcess::start(WORKER, &arguments)
    }

    async fn run(&self, chain: Chain) -> RunHandle<u64, Failure> {
        let reference = format!("run-{}", chain.number);
        self.workflow.start(&self.client, chain).reference_id(reference).await.expect("the run starts")
    }

    async fn completes(&self, run: &RunHandle<u64, Failure>, chain: Chain) {
        let output = timeout(PATIENCE, run.wait()).await.expect("the run ends in good time");
        assert_eq!(output.expect("the run completes"), chain.expected());
    }

    fn attempts(&self) -> Vec<Attempt> {
        self.ledgers.begun.attempts().expect("the ledger")
    }

    fn attempts_of(&self, worker: u32) -> Vec<Attempt> {
        self.attempts().into_iter().filter(|attempt| attempt.process == worker).collect()
    }

    async fn attempted(&self, worker: u32, count: usize) {
        until(&format!("attempt {count} of worker {worker}"), async || self.attempts_of(worker).len() >= count).await;
    }

    /// Checks it of all attempts so far. Answers how many there were beyond one per task.
    async fn once_and_not_again(&self, runs: &[(RunHandle<u64, Failure>, Chain)]) -> usize {
        once_and_not_again(runs, &self.ledgers.begun).await
    }
}

fn serve(directory: &TempDir, port: u16, flags: &[String]) -> Program {
    let listen = format!("127.0.0.1:{port}");
    let database = format!("sqlite://{}", directory.path().join("aiki.db").display());
    let mut arguments = vec!["--listen", &listen, "--database", &database];
    arguments.extend(flags.iter().map(String::as_str));
    Program::spawn(program::command(SERVER, &arguments))
}

/// A port below those that the system gives away, so that nobody has it while a server is down.
fn free_port() -> u16 {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let first = std::process::id() as usize * 7 + NEXT.fetch_add(1, Ordering::Relaxed);
    (first..first + 20_000)
        .map(|at| 12_000 + (at % 20_000) as u16)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}

async fn client(port: u16) -> Client {
    let mut config = ClientConfig::new(format!("127.0.0.1:{port}"));
    config.request_timeout = Duration::from_secs(1);
    aiki::connect(config).await.expect("a client")
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let looking = async {
        while !holds().await {
            sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(timeout(PATIENCE, looking).await.is_ok(), "{what} does not come");
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_millis() as u64
}

/// How long after `since` this worker began its first task.
fn taken_over_after(attempts: &[Attempt], since: u64) -> u64 {
    attempts.iter().map(|attempt| attempt.began_ms).min().expect("it works").saturating_sub(since)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_killed_midway_is_replaced_and_nothing_recorded_is_repeated() {
    replaced_when_killed(&Rig::start().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_killed_midway_is_replaced_through_redis_too() {
    let redis = RedisServer::start().await;
    replaced_when_killed(&Rig::with_redis(redis.url()).await).await;
}

async fn replaced_when_killed(rig: &Rig) {
    let doomed = rig.worker("doomed", &[]);
    let mut runs = Vec::new();
    for number in 0..4 {
        let chain = Chain { number, tasks: 6, task_ms: 250 };
        runs.push((rig.run(chain).await, chain));
    }
    // It has all four, and each has some tasks behind it.
    rig.attempted(doomed.id(), 10).await;
    let survivor = rig.worker("survivor", &[]);
    let doomed_id = doomed.id();
    let death = now_ms();
    doomed.kill();
    for (run, chain) in &runs {
        rig.completes(run, *chain).await;
    }
    println!("taken over {} ms after the death", taken_over_after(&rig.attempts_of(survivor.id()), death));
    let before = rig.attempts_of(doomed_id).len();
    let extra = rig.once_and_not_again(&runs).await;
    assert!((1..=4).contains(&extra), "{extra} tasks were begun twice; {before} attempts, 4 of them cut short");
}

/// So long a lease that nobody could go on in time if its end had to be waited for.
const LONG_LEASE: [&str; 2] = ["--lease-ms", "120000"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_worker_is_noticed_by_its_broken_connection_long_before_its_lease_ends() {
    let rig = Rig::start().await;
    let doomed = rig.worker("doomed", &LONG_LEASE);
    let chains = [0, 1, 2].map(|number| Chain { number, tasks: 6, task_ms: 250 });
    let mut runs = Vec::new();
    for chain in chains {
        runs.push((rig.run(chain).await, chain));
    }
    rig.attempted(doomed.id(), 6).await;
    let survivor = rig.worker("survivor", &LONG_LEASE);
    let death = now_ms();
    doomed.kill();
    for (run, chain) in &runs {
        rig.completes(run, *chain).await;
    }
    println!("taken over {} ms after the death", taken_over_after(&rig.attempts_of(survivor.id()), death));
    assert!((1..=3).contains(&rig.once_and_not_again(&runs).await), "only what was cut short is begun twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_only_worker_that_is_killed_goes_on_when_it_is_started_again() {
    let rig = Rig::start().await;
    let doomed = rig.worker("only", &LONG_LEASE);
    let chain = Chain { number: 0, tasks: 5, task_ms: 200 };
    let run = rig.run(chain).await;
    rig.attempted(doomed.id(), 2).await;
    doomed.kill();
    let _again = rig.worker("only", &LONG_LEASE);
    rig.completes(&run, chain).await;
    assert_eq!(rig.once_and_not_again(&[(run, chain)]).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_breaks_for_a_moment_costs_a_worker_no_run() {
    // More than a loaded machine needs to come back, and so little that the runs outlast it.
    let rig = Rig::with(None, &["--disconnect-grace", "2s"]).await;
    let proxy = Proxy::to(rig.port).await;
    let worker = rig.worker_at(proxy.port(), "shaken", &LONG_LEASE);
    // Somebody who would take over, and whose own line stands.
    let other = rig.worker("other", &["--lease-ms", "120000", "--slots", "1"]);
    let blocker = Chain { number: 9, tasks: 1, task_ms: 2_000 };
    let mut runs = vec![(rig.run(blocker).await, blocker)];
    for number in 0..4 {
        let chain = Chain { number, tasks: 20, task_ms: 300 };
        runs.push((rig.run(chain).await, chain));
    }
    rig.attempted(worker.id(), 2).await;
    for _ in 0..4 {
        proxy.set(Mode::Cut);
        proxy.set(Mode::Pass);
        sleep(Duration::from_millis(600)).await;
    }
    for (run, chain) in &runs {
        rig.completes(run, *chain).await;
    }
    assert!(!rig.attempts_of(worker.id()).is_empty() && !rig.attempts_of(other.id()).is_empty());
    assert_eq!(rig.once_and_not_again(&runs).await, 0, "no task is begun twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_frozen_for_longer_than_its_lease_writes_nothing_afterwards() {
    let rig = Rig::start().await;
    let frozen = rig.worker("frozen", &[]);
    let chain = Chain { number: 0, tasks: 7, task_ms: 600 };
    let run = rig.run(chain).await;
    rig.attempted(frozen.id(), 2).await;
    frozen.freeze();
    let since = now_ms();
    let before = rig.attempts_of(frozen.id()).len();
    let other = rig.worker("other", &[]);
    rig.attempted(other.id(), 2).await;
    println!("taken over {} ms after the freeze", taken_over_after(&rig.attempts_of(other.id()), since));
    // While the other is at work: the body that was frozen ends now, and would be reported.
    frozen.thaw();
    rig.completes(&run, chain).await;
    let told = run.transitions().await.expect("the history");
    sleep(LEASE / 2).await;
    assert_eq!(run.transitions().await.expect("the history"), told, "it was written to after its end");
    assert_eq!(rig.attempts_of(frozen.id()).len(), before, "it began a task of a run that was another's");
    assert_eq!(rig.once_and_not_again(&[(run, chain)]).await, 1, "only the task that was frozen was begun twice");

    other.kill();
    let next = Chain { number: 1, tasks: 1, task_ms: 0 };
    rig.completes(&rig.run(next).await, next).await;
    assert_eq!(rig.attempts_of(frozen.id()).len(), before + 1, "it works again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_told_to_end_while_busy_ends_in_time_and_its_runs_go_on_elsewhere() {
    let rig = Rig::start().await;
    let grace = Duration::from_secs(1);
    // A lease of a minute: nobody could go on in time if the runs were not given back.
    let mut leaving = rig.worker("leaving", &["--lease-ms", "60000", "--grace-ms", "1000"]);
    let mut runs = Vec::new();
    for number in 0..3 {
        let chain = Chain { number, tasks: 10, task_ms: 250 };
        runs.push((rig.run(chain).await, chain));
    }
    rig.attempted(leaving.id(), 6).await;
    let other = rig.worker("other", &[]);
    let told = Instant::now();
    let since = now_ms();
    leaving.terminate();
    let status = leaving.ended();
    let took = told.elapsed();
    println!("ended {} ms after SIGTERM, with {status}", took.as_millis());
    assert_eq!(status.code(), Some(0));
    assert!(took < grace + SLACK, "it took {took:?}");
    for (run, chain) in &runs {
        rig.completes(run, *chain).await;
    }
    println!("taken over {} ms after SIGTERM", taken_over_after(&rig.attempts_of(other.id()), since));
    assert!(rig.once_and_not_again(&runs).await <= 3, "at most the tasks under way are begun twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_under_load_loses_nothing_that_it_acknowledged() {
    nothing_lost_when_killed_under_load(Rig::start().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_under_load_loses_nothing_that_it_announces_through_redis() {
    let redis = RedisServer::start().await;
    nothing_lost_when_killed_under_load(Rig::with_redis(redis.url()).await).await;
}

async fn nothing_lost_when_killed_under_load(mut rig: Rig) {
    const RUNS: u64 = 240;
    const IN_FLIGHT: usize = 16;
    let _workers = [rig.worker("one", &["--slots", "8"]), rig.worker("two", &["--slots", "8"])];
    let acknowledged = AtomicUsize::new(0);
    let chain = |number| Chain { number, tasks: 3, task_ms: 5 };
    // Every third has no reference id: what makes its request the same when it is sent again is the client's own.
    let named = |number: u64| !number.is_multiple_of(3);
    let (starter, workflow) = (rig.client.clone(), rig.workflow.clone());
    let start = async |number| {
        let mut start = workflow.start(&starter, chain(number));
        if named(number) {
            start = start.reference_id(format!("run-{number}"));
        }
        let run = start.await.expect("the client tries again until the server is back");
        acknowledged.fetch_add(1, Ordering::Relaxed);
        (run, chain(number))
    };
    let load = futures::stream::iter(0..RUNS).map(start).buffered(IN_FLIGHT).collect::<Vec<_>>();
    let kills = async {
        for count in [20, 100, 190] {
            until("the load", async || acknowledged.load(Ordering::Relaxed) >= count).await;
            let done = rig.attempts().len();
            rig.kill_server();
            println!("killed with {count} runs acknowledged and {done} tasks begun");
        }
        // All are created: from here on it dies between reports.
        for count in [250, 450, 650] {
            until("the work", async || rig.attempts().len() >= count).await;
            rig.kill_server();
            println!("killed with {count} tasks begun");
        }
    };
    let (runs, ()) = futures::future::join(load, kills).await;
    for (run, chain) in &runs {
        rig.completes(run, *chain).await;
        if named(chain.number) {
            let again = rig.run(*chain).await;
            assert_eq!(again.id(), run.id(), "the same reference id is the same run");
            assert!(again.existed());
        }
    }
    let count = rig.client.list_runs(Default::default()).count().await.expect("the server answers");
    assert_eq!(count, RUNS, "a start that was sent again has started another run");
    let extra = rig.once_and_not_again(&runs).await;
    println!("{extra} of {} tasks were begun more than once", RUNS * 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_while_it_announces_announces_the_rest_when_it_is_back() {
    let redis = RedisServer::start().await;
    let line = Proxy::to(redis.port()).await;
    // The workers' own line to Redis stands.
    let mut rig = Rig::with(Some(redis.url()), &["--redis", &format!("redis://127.0.0.1:{}", line.port())]).await;
    let _workers = [rig.worker("one", &["--lease-ms", "20000"]), rig.worker("two", &["--lease-ms", "20000"])];
    let mut runs = Vec::new();
    // Nothing arrives; everything arrives, and the server is not told.
    for (round, mode) in [Mode::BlackHole, Mode::DropReplies].into_iter().enumerate() {
        line.set(mode);
        for number in 0..12 {
            let chain = Chain { number: round as u64 * 12 + number, tasks: 2, task_ms: 20 };
            let start = rig.workflow.start(&rig.client, chain);
            let start =
                if number.is_multiple_of(2) { start } else { start.reference_id(format!("run-{}", chain.number)) };
            runs.push((start.await.expect("the run starts"), chain));
        }
        if mode == Mode::DropReplies {
            until("a run of this round", async || rig.attempts().len() > 24).await;
        }
        let begun = rig.attempts().len();
        let killed = Instant::now();
        drop(rig.server.take());
        line.set(Mode::Pass);
        rig.kill_server();
        assert!(mode != Mode::BlackHole || begun == 0, "the announcements were not held up");
        for (run, chain) in &runs {
            rig.completes(run, *chain).await;
        }
        println!(
            "killed while announcing ({mode:?}) with {begun} tasks begun; all done after {:.1?}",
            killed.elapsed()
        );
    }
    let count = rig.client.list_runs(Default::default()).count().await.expect("the server answers");
    assert_eq!(count, runs.len() as u64);
    assert_eq!(rig.once_and_not_again(&runs).await, 0, "what is announced twice is executed once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_whose_answer_is_lost_is_not_carried_out_twice() {
    let rig = Rig::start().await;
    let proxy = Proxy::to(rig.port).await;
    let worker = rig.worker_at(proxy.port(), "deaf", &["--lease-ms", "10000"]);
    let chain = Chain { number: 0, tasks: 6, task_ms: 100 };
    let run = rig.run(chain).await;
    let mut lost = 0;
    for count in [1, 3, 5] {
        rig.attempted(worker.id(), count).await;
        proxy.set(Mode::DropReplies);
        let before = recorded_tasks(&run.transitions().await.expect("the history")).len();
        // What the worker sent was carried out, and it is not told.
        until("another result on record", async || {
            recorded_tasks(&run.transitions().await.expect("the history")).len() > before
        })
        .await;
        sleep(Duration::from_millis(100)).await;
        let attempts = rig.attempts().len();
        let now = recorded_tasks(&run.transitions().await.expect("the history")).len();
        assert_eq!(attempts, now, "the next task was begun before it was known that the report arrived");
        lost += 1;
        proxy.set(Mode::Pass);
    }
    rig.completes(&run, chain).await;
    println!("{lost} answers were lost");
    assert_eq!(rig.once_and_not_again(&[(run, chain)]).await, 0, "no task is begun twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_whose_answer_is_lost_starts_one_run() {
    let rig = Rig::start().await;
    let proxy = Proxy::to(rig.port).await;
    let deaf = client(proxy.port()).await;
    let chain = Chain { number: 0, tasks: 1, task_ms: 0 };
    proxy.set(Mode::DropReplies);
    let named = rig.workflow.start(&deaf, chain).reference_id("run-0");
    let nameless = rig.workflow.start(&deaf, chain);
    let starting = async { futures::future::join(async { named.await }, async { nameless.await }).await };
    let heal = async {
        until("both runs", async || {
            rig.client.list_runs(Default::default()).count().await.expect("the server answers") >= 2
        })
        .await;
        proxy.set(Mode::Pass);
    };
    let ((named, nameless), ()) = futures::future::join(starting, heal).await;
    let (named, nameless) = (named.expect("a run"), nameless.expect("a run"));
    assert_ne!(named.id(), nameless.id());
    assert_eq!(rig.run(chain).await.id(), named.id());
    let count = rig.client.list_runs(Default::default()).count().await.expect("the server answers");
    assert_eq!(count, 2, "the requests that were sent again found what the first ones had started");
    let _worker = rig.worker("late", &[]);
    rig.completes(&named, chain).await;
    rig.completes(&nameless, chain).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_cut_off_for_longer_than_its_lease_stops_by_itself() {
    let rig = Rig::start().await;
    let proxy = Proxy::to(rig.port).await;
    let lonely = rig.worker_at(proxy.port(), "lonely", &[]);
    // A task takes longer than a lease: only one that is kept alive comes to its end.
    let chain = Chain { number: 0, tasks: 2, task_ms: 3_000 };
    let run = rig.run(chain).await;
    rig.attempted(lonely.id(), 1).await;
    proxy.set(Mode::BlackHole);
    let since = now_ms();
    let other = rig.worker("other", &[]);
    rig.completes(&run, chain).await;
    println!("taken over {} ms after the cut", taken_over_after(&rig.attempts_of(other.id()), since));
    let ended = rig.ledgers.ended.attempts().expect("the ledger");
    assert!(ended.iter().all(|attempt| attempt.process != lonely.id()), "it did not stop its task");
    assert_eq!(ended.len() as u64, chain.tasks);

    let told = run.transitions().await.expect("the history");
    other.kill();
    proxy.set(Mode::Pass);
    let next = Chain { number: 1, tasks: 1, task_ms: 0 };
    rig.completes(&rig.run(next).await, next).await;
    assert_eq!(rig.attempts_of(lonely.id()).len(), 2, "it works again, and not on what was another's");
    assert_eq!(run.transitions().await.expect("the history"), told, "it was written to after its end");
    let runs = [(run, chain), (rig.run(next).await, next)];
    assert_eq!(rig.once_and_not_again(&runs).await, 1);
}
