//! Specialised workers and several workers share the streams of one Redis, all of it from configurations.
//!
//! Real time: leases are measured by Redis's own clock.
#![allow(clippy::expect_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aiki::prelude::*;
use aiki::redis::RedisUrl;
use aiki::{ClientConfig, SubscriberTypes};
use integration_tests::redis::source::Source;
use integration_tests::redis::{command, connect};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(60);
const RUNS: u64 = 60;

/// Who did what: worker and workflow with the number of runs.
type Done = Arc<Mutex<BTreeMap<(&'static str, &'static str), u64>>>;

/// A workflow with one task that notes which worker executes it.
fn define(name: &'static str, worker: &'static str, done: &Done) -> WorkflowVersion<u64, u64> {
    let done = done.clone();
    let task = Task::new("note", move |_: TaskContext, number: u64| {
        *done.lock().expect("the notes").entry((worker, name)).or_default() += 1;
        async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok::<_, Failure>(number)
        }
    });
    Workflow::new(name).version("1.0.0", move |run: Run, number: u64| {
        let task = task.clone();
        async move { Ok::<_, Failure>(task.start(&run, number).await?) }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_take_what_is_theirs_and_share_what_is_common() {
    let redis = Source::find().await;
    let address: RedisUrl = redis.url().parse().expect("a good URL");
    let server = Server::builder().redis(address).start().await.expect("a server");
    // A namespace of its own: the Redis may be somebody else's.
    let tenant = format!("facade-{}", std::process::id());
    let client = server.client_for(tenant.as_str());
    let configured = format!(r#"{{"url":"localhost:9090","redis":"{}"}}"#, redis.url());
    let configured: ClientConfig = serde_json::from_str(&configured).expect("the client's configuration");
    let types = SubscriberTypes::of_client(&configured).expect("its Redis");

    let done = Done::default();
    let mut workers = Vec::new();
    let plans: [(&str, &[&str], Option<&str>); 4] = [
        ("alpha-only", &["alpha"], None),
        ("both", &["alpha", "beta"], None),
        ("gpu", &["beta"], Some("gpu")),
        ("gpu-too", &["alpha", "beta"], Some("gpu")),
    ];
    for (id, workflows, pool) in plans {
        let config = format!(
            r#"{{"id":"{id}","maxConcurrentWorkflowRuns":4,"workflowRun":{{"heartbeatIntervalMs":500}},
            "subscriber":{{"type":"redis_streams","claimMinIdleTimeMs":2000,"blockTimeMs":200}}}}"#
        );
        let config = WorkerConfig::from_json(&config).expect("the worker's configuration");
        let mut builder = types.worker(client.clone(), config).expect("its subscriber");
        if let Some(pool) = pool {
            builder = builder.pool(pool);
        }
        let worker = builder.build().expect("a worker");
        for name in workflows {
            worker.workflow_registry().add(define(name, id, &done));
        }
        let running = worker.clone();
        workers.push((worker, tokio::spawn(async move { running.start().await })));
    }

    let (alpha, beta) = (define("alpha", "nobody", &done), define("beta", "nobody", &done));
    let mut handles = Vec::new();
    for number in 0..RUNS {
        handles.push(alpha.start(&client, number).await.expect("alpha starts"));
        handles.push(beta.start(&client, number).await.expect("beta starts"));
        handles.push(beta.start(&client, number).pool("gpu").await.expect("beta starts in a pool"));
    }
    let all = async {
        for handle in &handles {
            handle.wait().await.expect("the run completes");
        }
    };
    timeout(SOON, all).await.expect("every run completes");

    for (worker, running) in workers {
        let report = timeout(SOON, worker.stop()).await.expect("it stops");
        assert!(report.is_clean(), "{report}");
        running.await.expect("it did not panic").expect("a clean end");
    }
    server.close().await;

    let done = done.lock().expect("the notes").clone();
    let of = |worker, workflow| done.get(&(worker, workflow)).copied().unwrap_or_default();
    assert_eq!(of("alpha-only", "alpha") + of("both", "alpha"), RUNS, "{done:?}");
    assert!(of("alpha-only", "alpha") > 0 && of("both", "alpha") > 0, "one of two had it all: {done:?}");
    assert_eq!(of("both", "beta"), RUNS, "nobody else serves beta outside of the pool: {done:?}");
    assert_eq!(of("gpu", "beta") + of("gpu-too", "beta"), RUNS, "{done:?}");
    assert!(of("gpu", "beta") > 0 && of("gpu-too", "beta") > 0, "one of two had it all: {done:?}");
    assert_eq!(done.values().sum::<u64>(), RUNS * 3, "a task was executed twice: {done:?}");

    // It went through Redis, and nothing is left there.
    let admin = connect(&redis.url()).await;
    for (pool, workflow) in [("default", "alpha"), ("default", "beta"), ("gpu", "beta")] {
        let stream = format!("aiki:wf:{{{tenant}/{pool}}}:user:{workflow}:1.0.0");
        assert_eq!(command::<String>(&admin, &format!("TYPE {stream}")).await, "stream", "{stream}");
        assert_eq!(command::<u64>(&admin, &format!("XLEN {stream}")).await, 0, "{stream}");
    }
}
