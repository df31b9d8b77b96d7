//! Server, Redis and workers together, one of the workers without warning no more.
//!
//! Real time: leases are measured by Redis's own clock.
#![allow(clippy::expect_used, reason = "helpers of tests")]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aiki::prelude::*;
use aiki::run::TaskState;
use aiki::run::record::TransitionChange;
use aiki_subscriber_redis::{RedisPublisher, RedisStreams, RedisUrl};
use integration_tests::ledger::Ledger;
use integration_tests::pipeline;
use integration_tests::redis::source::Source;
use integration_tests::redis::{command, connect};
use tokio::time::{sleep, timeout};

const RUNS: u64 = 200;
const LEASE: Duration = Duration::from_millis(1_600);
/// All runs are done by then; most of it is for slow machines.
const SOON: Duration = Duration::from_secs(60);

fn worker(client: Client, url: &RedisUrl, ledger: &Ledger) -> Worker {
    let subscriber = RedisStreams::new(url.clone()).claim_min_idle_time(LEASE).block_time(Duration::from_millis(300));
    let worker = Worker::builder(client)
        .subscriber(subscriber)
        .heartbeat_interval(LEASE / 3)
        .max_concurrent_workflow_runs(8)
        .build()
        .expect("a worker");
    worker.workflow_registry().add(pipeline::define(ledger.clone()));
    worker
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_dies_midway_costs_time_and_no_run() {
    let redis = Source::find().await;
    let url: RedisUrl = redis.url().parse().expect("a good URL");
    let server = aiki_server::Server::builder()
        .publisher(Arc::new(RedisPublisher::new(url.clone())))
        .start()
        .await
        .expect("a server");
    let client = server.client();
    let directory = tempfile::tempdir().expect("a directory");
    let ledger = Ledger::in_directory(directory.path());

    // The one that dies lives in a runtime of its own; so everything of it ends at once.
    let dying = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let doomed = worker(client.clone(), &url, &ledger);
    dying.spawn(async move { doomed.start().await });
    let survivor = worker(client.clone(), &url, &ledger);
    let running = tokio::spawn({
        let survivor = survivor.clone();
        async move { survivor.start().await }
    });

    let workflow = pipeline::define(ledger.clone());
    let mut handles = Vec::new();
    for number in 0..RUNS {
        handles.push(workflow.start(&client, number).await.expect("the run is created"));
    }
    let half = async {
        while ledger.attempts().expect("the ledger").len() < (RUNS as usize * pipeline::TASKS) / 3 {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(SOON, half).await.expect("the workers work");
    dying.shutdown_background();

    let all = async {
        for (number, handle) in (0..RUNS).zip(&handles) {
            assert_eq!(handle.wait().await.expect("the run completes"), pipeline::expected(number));
        }
    };
    timeout(SOON, all).await.expect("every run completes");

    let mut recorded = HashMap::new();
    for handle in &handles {
        for transition in client.server().list_transitions(handle.id()).await.expect("the history") {
            if let TransitionChange::Task(task, TaskState::Completed { .. }) = transition.change {
                assert_eq!(recorded.insert(task.to_string(), ()), None, "task {task} was recorded twice");
            }
        }
    }
    let attempts = ledger.attempts().expect("the ledger").len();
    assert_eq!(recorded.len(), RUNS as usize * pipeline::TASKS);
    // The death cost at most what was under way: 8 slots with 2 tasks each.
    assert!(attempts <= recorded.len() + 16, "{attempts} attempts for {} tasks", recorded.len());

    // What the dead one held is taken over and, as the server knows the runs as done, settled.
    let admin = connect(&redis.url()).await;
    let stream = "aiki:wf:{default/default}:user:pipeline:1.0.0";
    let settled = async {
        while command::<u64>(&admin, &format!("XLEN {stream}")).await > 0 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, settled).await.expect("nothing is left in the stream");

    survivor.stop().await;
    timeout(SOON, running).await.expect("the worker stops").expect("it did not panic").expect("a clean stop");
    server.close().await;
    let consumers: fred::types::Value = command(&admin, &format!("XINFO CONSUMERS {stream} aiki-workers")).await;
    let text = format!("{consumers:?}");
    // The dead one's and the place of what was handed back may be left; the one that stopped is gone.
    assert!(consumers.array_len().unwrap_or_default() <= 2, "{text}");
}
