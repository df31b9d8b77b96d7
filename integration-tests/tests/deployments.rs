//! Workers of another version than runs: earlier, later, and with other code under the same name.
#![allow(clippy::expect_used, reason = "a panic is how a test fails")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aiki::prelude::*;
use aiki::run::RunState;
use aiki_worker::ClaimSubscriber;
use integration_tests::burdens;
use integration_tests::chain::{self, Chain};
use integration_tests::redis::RedisServer;
use integration_tests::rig::{Programs, Rig};
use tokio::time::{sleep, timeout};

const SERVER: &str = env!("CARGO_BIN_EXE_server-program");
const WORKER: &str = env!("CARGO_BIN_EXE_remote-worker");
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs of a version wait, and are shown to wait, until its worker comes.
async fn waits_for_its_worker(rig: &Rig, kind: &str, served: &str, wanted: &str) {
    let other = rig.worker("other", &["--version", served], &[]);
    let workflow = chain::define_version(wanted, None);
    let chain = Chain { number: 0, tasks: 1, task_ms: 0 };
    let run = workflow.start(&rig.client, chain).await.expect("the run starts");
    let began = Instant::now();
    while !run.is_unserved().await.expect("the server answers") {
        assert!(began.elapsed() < PATIENCE, "nothing says that nobody serves the run");
        sleep(Duration::from_millis(20)).await;
    }
    println!("{kind}: {wanted} is shown as unserved after {:.2} s", began.elapsed().as_secs_f64());
    sleep(Duration::from_secs(2)).await;
    assert!(matches!(run.state().await.expect("its state"), RunState::Queued { .. }));
    let launched = Instant::now();
    let right = rig.worker("right", &["--version", wanted], &[]);
    let connected = launched.elapsed();
    assert_eq!(timeout(PATIENCE, run.wait()).await.expect("it ends in good time").expect("it completes"), 256);
    println!(
        "{kind}: {wanted} done {:.2} s after its worker was launched, which took {:.2} s to connect",
        launched.elapsed().as_secs_f64(),
        connected.as_secs_f64()
    );
    drop((other, right));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_of_a_version_that_nobody_serves_begin_when_its_worker_comes() {
    let redis = RedisServer::start().await;
    for (kind, redis) in [("over HTTP", None), ("over Redis", Some(redis.url()))] {
        for (served, wanted) in [("1.0.0", "2.0.0"), ("2.0.0", "1.0.0")] {
            let rig = Rig::start(Programs::at(SERVER, WORKER), redis.clone(), &[]).await;
            waits_for_its_worker(&rig, kind, served, wanted).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_hears_nothing_keeps_its_run_and_holds_up_the_stop_for_the_grace_only() {
    let rig = Rig::start(Programs::at(SERVER, WORKER), None, &[]).await;
    let mut deaf = rig.worker("deaf", &["--burdens", "--grace-ms", "1000"], &[]);
    // Three leases of two seconds.
    let blocked = Duration::from_secs(6);
    let run = burdens::deaf().start(&rig.client, blocked.as_millis() as u64).await.expect("the run starts");
    let began = Instant::now();
    while !matches!(run.state().await.expect("its state"), RunState::Running) {
        assert!(began.elapsed() < PATIENCE, "nobody takes it");
        sleep(Duration::from_millis(10)).await;
    }
    let idle = rig.worker("idle", &["--burdens"], &[]);
    timeout(PATIENCE, run.wait()).await.expect("it ends in good time").expect("it completes");
    let claims = rig.metric("aiki_claims_total", "granted");
    println!("blocked for {blocked:?} with a lease of 2 s: {claims} claim, done after {:?}", began.elapsed());
    assert_eq!(claims, 1, "it was taken away");
    drop(idle);

    let other = burdens::deaf().start(&rig.client, 30_000).await.expect("the run starts");
    while !matches!(other.state().await.expect("its state"), RunState::Running) {
        sleep(Duration::from_millis(10)).await;
    }
    let told = Instant::now();
    deaf.terminate();
    while matches!(other.state().await.expect("its state"), RunState::Running) {
        assert!(told.elapsed() < PATIENCE, "the run is not given back");
        sleep(Duration::from_millis(10)).await;
    }
    println!("the run was given back {:.2} s after SIGTERM, with a grace of 1 s", told.elapsed().as_secs_f64());
    let status = deaf.ended();
    println!("the process ended with {status} after {:.2} s", told.elapsed().as_secs_f64());
    assert_eq!(status.code(), Some(1), "it has left a handler behind");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_never_ends_is_ended_by_its_deadline() {
    let rig = Rig::start(Programs::at(SERVER, WORKER), None, &[]).await;
    let worker = rig.worker("patient", &[], &[]);
    for limit in [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)] {
        let chain = Chain { number: 0, tasks: 1, task_ms: 600_000 };
        let began = Instant::now();
        let run = rig.workflow.start(&rig.client, chain).time_limit(limit).await.expect("the run starts");
        let end = timeout(PATIENCE, run.wait()).await.expect("it ends in good time");
        println!("deadline {limit:?}: ended after {:.2} s: {end:?}", began.elapsed().as_secs_f64());
        assert!(end.is_err());
    }
    // Its slots are free again.
    let next = Chain { number: 1, tasks: 1, task_ms: 0 };
    rig.complete(&[rig.run(next).await], PATIENCE).await;
    drop(worker);
}

/// Answers after a task of this name, a nap, and another task. Says how often the first task was begun.
fn drifting(first: &'static str, begun: Arc<AtomicUsize>) -> WorkflowVersion<(), u64, Failure> {
    let first = Task::new(first, move |_: TaskContext, (): ()| {
        begun.fetch_add(1, Ordering::Relaxed);
        async { Ok::<_, Failure>(1_u64) }
    });
    let last = Task::new("ship", |_: TaskContext, number: u64| async move { Ok::<_, Failure>(number) });
    Workflow::new("drifting").version("1.0.0", move |run: Run, (): ()| {
        let (first, last) = (first.clone(), last.clone());
        async move {
            let number = first.start(&run, ()).await?;
            run.sleep("nap", Duration::from_millis(500)).await;
            Ok::<_, Failure>(last.start(&run, number).await?)
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn code_that_was_changed_under_a_run_fails_it_once_and_tells_where() {
    let server = aiki_server::Server::builder().start().await.expect("a server");
    let begun = [Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0))];
    let (old, new) = (drifting("reserve", begun[0].clone()), drifting("charge", begun[1].clone()));
    let work = |workflow: &WorkflowVersion<(), u64, Failure>| {
        let claims = ClaimSubscriber::new(&server.client()).poll_interval(Duration::from_millis(20));
        let worker = Worker::builder(server.client()).subscriber(claims).build().expect("a worker");
        worker.workflow_registry().add(workflow);
        let running = worker.clone();
        tokio::spawn(async move { running.start().await });
        worker
    };
    let first = work(&old);
    let run = old.start(&server.client(), ()).await.expect("the run starts");
    let began = Instant::now();
    while !matches!(run.state().await.expect("its state"), RunState::Sleeping { .. }) {
        assert!(began.elapsed() < PATIENCE, "it does not sleep");
        sleep(Duration::from_millis(5)).await;
    }
    first.stop().await;
    let second = work(&new);
    let end = timeout(PATIENCE, run.wait()).await.expect("it ends in good time");
    let state = run.state().await.expect("its state");
    println!("ended after {:?}: {end:?} {state:?}", began.elapsed());
    let told = format!("{end:?}");
    assert!(told.contains("reserve") && told.contains("charge"), "{told}");
    sleep(Duration::from_secs(1)).await;
    let totals = second.status().totals;
    println!(
        "claims by the new code: {}, bodies of the new task: {}",
        totals.claimed,
        begun[1].load(Ordering::Relaxed)
    );
    assert_eq!((totals.claimed, begun[1].load(Ordering::Relaxed)), (1, 0), "it was tried again");
    second.stop().await;
    server.close().await;
}
