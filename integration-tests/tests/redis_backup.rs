//! Redis is killed and started again under a worker; nobody restarts anything else.
//!
//! Real time: leases are measured by Redis's own clock.
#![allow(clippy::expect_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aiki::prelude::*;
use aiki::redis::{RedisPublisher, RedisStreams, RedisUrl};
use aiki::run::TaskState;
use aiki::run::record::TransitionChange;
use integration_tests::ledger::Ledger;
use integration_tests::pipeline;
use integration_tests::redis::{RedisServer, command, connect};
use tokio::time::{sleep, timeout};

const LEASE: Duration = Duration::from_secs(2);
/// Most of it is for slow machines.
const SOON: Duration = Duration::from_secs(60);
/// A run that waits for nothing but the backup's next question is done by then.
const PROMPTLY: Duration = Duration::from_secs(10);

struct House {
    redis: RedisServer,
    server: aiki_server::Server,
    client: Client,
    ledger: Ledger,
    worker: Worker,
    running: tokio::task::JoinHandle<Result<aiki::StopReport, aiki::WorkerError>>,
    _directory: tempfile::TempDir,
}

impl House {
    async fn with(mut redis: RedisServer, up: bool) -> Self {
        let url: RedisUrl = redis.url().parse().expect("a good URL");
        if !up {
            redis.kill();
        }
        let publisher = Arc::new(RedisPublisher::new(url.clone()));
        let server = aiki_server::Server::builder().publisher(publisher).start().await.expect("a server");
        let client = server.client();
        let directory = tempfile::tempdir().expect("a directory");
        let ledger = Ledger::in_directory(directory.path());
        let subscriber = RedisStreams::new(url).claim_min_idle_time(LEASE).block_time(Duration::from_millis(200));
        let worker = Worker::builder(client.clone())
            .subscriber(subscriber)
            .heartbeat_interval(LEASE / 4)
            .max_concurrent_workflow_runs(8)
            .build()
            .expect("a worker");
        worker.workflow_registry().add(pipeline::define(ledger.clone()));
        let running = tokio::spawn({
            let worker = worker.clone();
            async move { worker.start().await }
        });
        Self { redis, server, client, ledger, worker, running, _directory: directory }
    }

    async fn run(&self, number: u64) -> RunHandle<String, Failure> {
        pipeline::define(self.ledger.clone()).start(&self.client, number).await.expect("the run is created")
    }

    async fn one(&self, number: u64) {
        let handle = self.run(number).await;
        let answer = timeout(PROMPTLY, handle.wait()).await.expect("it completes promptly");
        assert_eq!(answer.expect("it completes"), pipeline::expected(number));
    }

    async fn until_on_backup(&self, on_backup: bool) {
        let switched = async {
            while self.worker.health().on_backup != on_backup {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(SOON, switched).await.expect("the worker switches");
    }

    /// Every task was recorded once, and none was executed twice: nothing but the transport failed.
    async fn each_once(&self, handles: &[RunHandle<String, Failure>]) {
        let mut recorded = BTreeSet::new();
        for handle in handles {
            for transition in self.client.server().list_transitions(handle.id()).await.expect("the history") {
                if let TransitionChange::Task(task, TaskState::Completed { .. }) = transition.change {
                    assert!(recorded.insert(task.to_string()), "task {task} was recorded twice");
                }
            }
        }
        assert_eq!(recorded.len(), handles.len() * pipeline::TASKS);
        let attempts = self.ledger.attempts().expect("the ledger");
        let ours = attempts.iter().filter(|attempt| recorded.contains(&attempt.task)).count();
        assert_eq!(ours, recorded.len(), "a task was executed twice");
    }

    async fn stop(self) {
        self.worker.stop().await;
        timeout(SOON, self.running).await.expect("it stops").expect("it did not panic").expect("a clean end");
        self.server.close().await;
    }
}

async fn all(handles: &[RunHandle<String, Failure>]) {
    let all = async {
        for (number, handle) in (0..).zip(handles) {
            assert_eq!(handle.wait().await.expect("the run completes"), pipeline::expected(number));
        }
    };
    timeout(SOON, all).await.expect("every run completes");
}

async fn through_redis(house: &House) -> u64 {
    let admin = connect(&house.redis.url()).await;
    let info: String = command(&admin, "INFO commandstats").await;
    let line = info.lines().find_map(|line| line.strip_prefix("cmdstat_xadd:calls=")).unwrap_or("0,");
    line.split(',').next().and_then(|calls| calls.parse().ok()).unwrap_or_default()
}

async fn killed_and_back(options: &[&str]) {
    let mut house = House::with(RedisServer::start_with(options).await, true).await;
    let mut handles = Vec::new();
    for number in 0..200 {
        handles.push(house.run(number).await);
        if number == 60 {
            house.redis.kill();
        }
        sleep(Duration::from_millis(2)).await;
    }
    house.until_on_backup(true).await;
    all(&handles).await;
    house.each_once(&handles).await;

    house.redis.restart().await;
    house.until_on_backup(false).await;
    // From now on runs come through Redis, and it has the words to show for it.
    let before = through_redis(&house).await;
    let began = Instant::now();
    for number in 0..20 {
        house.one(number).await;
    }
    println!("20 runs in sequence through the new Redis: {:?}", began.elapsed());
    assert!(through_redis(&house).await >= before + 20);
    assert!(!house.worker.health().on_backup);
    assert!(house.worker.health().is_ready());
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_killed_and_comes_back_empty_costs_no_run() {
    killed_and_back(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_killed_and_comes_back_with_old_entries_repeats_no_run() {
    killed_and_back(&["--appendonly", "yes", "--appendfsync", "always"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_starts_without_redis_works_and_finds_it_later() {
    let mut house = House::with(RedisServer::start().await, false).await;
    for number in 0..5 {
        house.one(number).await;
    }
    assert!(house.worker.health().on_backup);
    house.redis.restart().await;
    house.until_on_backup(false).await;
    house.one(5).await;
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_stands_still_holds_nobody_up() {
    let house = House::with(RedisServer::start().await, true).await;
    for number in 0..5 {
        house.one(number).await;
    }
    assert!(!house.worker.health().on_backup);
    // It accepts connections and says nothing: no proof that anything is consumed.
    house.redis.freeze();
    house.until_on_backup(true).await;
    for number in 5..8 {
        house.one(number).await;
    }
    assert!(house.worker.health().is_ready(), "{:?}", house.worker.health());
    house.redis.thaw();
    house.until_on_backup(false).await;
    house.one(8).await;
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_only_waits_for_a_silent_redis_is_not_ready() {
    let redis = RedisServer::start().await;
    let server = aiki_server::Server::builder().start().await.expect("a server");
    let url: RedisUrl = redis.url().parse().expect("a good URL");
    let streams = RedisStreams::new(url).claim_min_idle_time(LEASE).block_time(Duration::from_millis(200));
    let worker = Worker::builder(server.client())
        .subscriber(streams.clone())
        .heartbeat_interval(LEASE / 4)
        .backup_subscriber(false)
        .readiness_limit(Duration::from_millis(1_000))
        .build()
        .expect("a worker");
    let directory = tempfile::tempdir().expect("a directory");
    worker.workflow_registry().add(pipeline::define(Ledger::in_directory(directory.path())));
    let running = tokio::spawn({
        let worker = worker.clone();
        async move { worker.start().await }
    });
    let ready = async |wanted: bool| {
        let reached = async {
            while worker.health().is_ready() != wanted {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(SOON, reached).await.expect("the readiness changes");
    };
    ready(true).await;
    redis.freeze();
    let began = Instant::now();
    ready(false).await;
    // The connection does not complain yet, and `receive` comes back empty-handed as ever: only the proof is
    // missing.
    let health = streams.health();
    assert!(health.iter().all(|health| health.trouble.is_none()), "{health:?}");
    println!("not ready after {:?}: {:?}", began.elapsed(), worker.health().unready());
    redis.thaw();
    ready(true).await;
    worker.stop().await;
    running.await.expect("it did not panic").expect("a clean end");
    server.close().await;
}
