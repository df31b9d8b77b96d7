//! Whole workers over a Redis that goes wrong: no run is lost, and no handler starts again without a reason.
//!
//! Real time: leases and downtimes are measured by Redis's own clock.
#![allow(clippy::expect_used, reason = "helpers of tests")]

use std::sync::Arc;
use std::time::Duration;

use aiki::prelude::*;
use aiki_subscriber_redis::{RedisPublisher, RedisStreams, RedisUrl};
use integration_tests::ledger::Ledger;
use integration_tests::pipeline::{self, Pipeline};
use integration_tests::redis::RedisServer;
use integration_tests::redis::bench::{BLOCK, HEARTBEAT, LEASE};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// All runs are done by then; most of it is for slow machines.
const SOON: Duration = Duration::from_secs(60);

/// A server that announces to a Redis, and what workers need.
struct Fleet {
    url: RedisUrl,
    server: aiki_server::Server,
    ledger: Ledger,
    _directory: tempfile::TempDir,
}

impl Fleet {
    async fn over(redis: &RedisServer) -> Self {
        let url: RedisUrl = redis.url().parse().expect("a good URL");
        let publisher = Arc::new(RedisPublisher::new(url.clone()));
        let server = aiki_server::Server::builder().publisher(publisher).start().await.expect("a server");
        let directory = tempfile::tempdir().expect("a directory");
        Self { url, server, ledger: Ledger::in_directory(directory.path()), _directory: directory }
    }

    fn worker(&self, id: &str, slots: usize, workflow: &Pipeline) -> Worker {
        let subscriber = RedisStreams::new(self.url.clone()).claim_min_idle_time(LEASE).block_time(BLOCK);
        let worker = Worker::builder(self.server.client())
            .id(id)
            .subscriber(subscriber)
            .heartbeat_interval(HEARTBEAT)
            .max_concurrent_workflow_runs(slots)
            .build()
            .expect("a worker");
        worker.workflow_registry().add(workflow);
        worker
    }

    fn attempts(&self) -> usize {
        self.ledger.attempts().expect("the ledger").len()
    }

    /// Until so many attempts have begun.
    async fn attempts_reach(&self, count: usize) {
        let begun = async {
            while self.attempts() < count {
                sleep(Duration::from_millis(2)).await;
            }
        };
        assert!(timeout(SOON, begun).await.is_ok(), "{} of {count} attempts have begun", self.attempts());
    }

    /// One task, whose attempts are noted and wait for `released`.
    fn waiting(&self, released: watch::Receiver<bool>) -> Pipeline {
        let ledger = self.ledger.clone();
        let task = Task::new("wait", move |cx: TaskContext, number: u64| {
            let (ledger, mut released) = (ledger.clone(), released.clone());
            async move {
                ledger.note(cx.idempotency_key(), cx.attempt())?;
                // Only a dropped sender ends this early, and then the test is over.
                let _ = released.wait_for(|released| *released).await;
                Ok::<_, Failure>(number.to_string())
            }
        });
        one_task(task)
    }

    /// One task that blocks its thread.
    fn blocking(&self, during: Duration) -> Pipeline {
        let ledger = self.ledger.clone();
        let task = Task::new("block", move |cx: TaskContext, number: u64| {
            let ledger = ledger.clone();
            async move {
                ledger.note(cx.idempotency_key(), cx.attempt())?;
                std::thread::sleep(during);
                Ok::<_, Failure>(number.to_string())
            }
        });
        one_task(task)
    }

    async fn start(&self, workflow: &Pipeline, runs: u64) -> Vec<RunHandle<String, Failure>> {
        let mut handles = Vec::new();
        for number in 0..runs {
            handles.push(workflow.start(&self.server.client(), number).await.expect("the run is created"));
        }
        handles
    }
}

fn one_task(task: Task<u64, String>) -> Pipeline {
    Workflow::new("pipeline").version("1.0.0", move |run: Run, number: u64| {
        let task = task.clone();
        async move { Ok(task.start(&run, number).await?) }
    })
}

/// A worker in a runtime of its own with one thread: everything of it can be ended at once.
fn alone(worker: &Worker) -> Runtime {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let worker = worker.clone();
    runtime.spawn(async move { worker.start().await });
    runtime
}

async fn all_end_as(handles: &[RunHandle<String, Failure>], expected: impl Fn(u64) -> String) {
    let all = async {
        for (number, handle) in (0..).zip(handles) {
            assert_eq!(handle.wait().await.expect("the run completes"), expected(number));
        }
    };
    timeout(SOON, all).await.expect("every run completes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_stands_still_for_two_leases_restarts_none_of_fifty_handlers() {
    let redis = RedisServer::start().await;
    let fleet = Fleet::over(&redis).await;
    let (release, released) = watch::channel(false);
    let workflow = fleet.waiting(released);
    let workers: Vec<Worker> = (0..4).map(|number| fleet.worker(&format!("w{number}"), 16, &workflow)).collect();
    let running: Vec<_> =
        workers.iter().cloned().map(|worker| tokio::spawn(async move { worker.start().await })).collect();
    let handles = fleet.start(&workflow, 50).await;
    fleet.attempts_reach(50).await;
    redis.freeze();
    sleep(LEASE * 2).await;
    redis.thaw();
    // Long enough for everybody to have looked for abandoned entries.
    sleep(LEASE).await;
    assert_eq!(fleet.attempts(), 50, "a handler was started again");
    release.send_replace(true);
    all_end_as(&handles, |number| number.to_string()).await;
    assert_eq!(fleet.attempts(), 50, "a handler was started again");
    for worker in &workers {
        worker.stop().await;
    }
    for running in running {
        running.await.expect("it did not panic").expect("a clean stop");
    }
    fleet.server.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_blocks_its_only_thread_for_three_leases_keeps_its_run() {
    let redis = RedisServer::start().await;
    let fleet = Fleet::over(&redis).await;
    let workflow = fleet.blocking(LEASE * 3);
    let blocked = alone(&fleet.worker("blocked", 1, &workflow));
    let handles = fleet.start(&workflow, 1).await;
    fleet.attempts_reach(1).await;
    // It has room and would take over what looks abandoned.
    let idle = fleet.worker("idle", 8, &workflow);
    let running = tokio::spawn({
        let idle = idle.clone();
        async move { idle.start().await }
    });
    all_end_as(&handles, |number| number.to_string()).await;
    assert_eq!(fleet.attempts(), 1, "the run went to somebody else");
    idle.stop().await;
    running.await.expect("it did not panic").expect("a clean stop");
    fleet.server.close().await;
    blocked.shutdown_background();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_workers_with_one_id_the_survivor_takes_what_the_dead_one_held() {
    let redis = RedisServer::start().await;
    let fleet = Fleet::over(&redis).await;
    let (release, released) = watch::channel(false);
    let workflow = fleet.waiting(released);
    let doomed = alone(&fleet.worker("same", 4, &workflow));
    let handles = fleet.start(&workflow, 4).await;
    fleet.attempts_reach(4).await;
    let survivor = fleet.worker("same", 8, &workflow);
    let running = tokio::spawn({
        let survivor = survivor.clone();
        async move { survivor.start().await }
    });
    // Both live: neither disturbs the other.
    sleep(LEASE).await;
    assert_eq!(fleet.attempts(), 4, "a run went from one to the other");
    doomed.shutdown_background();
    fleet.attempts_reach(8).await;
    release.send_replace(true);
    all_end_as(&handles, |number| number.to_string()).await;
    assert_eq!(fleet.attempts(), 8, "one attempt for each run, and one more for its owner's death");
    survivor.stop().await;
    running.await.expect("it did not panic").expect("a clean stop");
    fleet.server.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_killed_and_comes_back_empty_costs_no_run() {
    let mut redis = RedisServer::start().await;
    let fleet = Fleet::over(&redis).await;
    let workflow = pipeline::define(fleet.ledger.clone());
    let worker = fleet.worker("worker", 8, &workflow);
    let running = tokio::spawn({
        let worker = worker.clone();
        async move { worker.start().await }
    });
    let handles = fleet.start(&workflow, 60).await;
    fleet.attempts_reach(60).await;
    redis.kill();
    sleep(LEASE / 2).await;
    redis.restart().await;
    all_end_as(&handles, pipeline::expected).await;
    // Whoever held a run kept it: Redis had only hints.
    assert_eq!(fleet.attempts(), 60 * pipeline::TASKS);
    worker.stop().await;
    running.await.expect("it did not panic").expect("a clean stop");
    fleet.server.close().await;
}
