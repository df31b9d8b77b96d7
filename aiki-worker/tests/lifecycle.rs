//! Starting and stopping, in every order.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aiki_core::subscriber::{SubscriberError, Subscription};
use aiki_core::{Failure, Run, RunState, Subscriber, SubscriberFactory, Task, TaskContext, Workflow, WorkflowVersion};
use aiki_worker::{WorkerError, WorkerPhase};
use async_trait::async_trait;
use common::faulty::Faulty;
use common::logs::Logs;
use common::{House, start, until};
use tokio::time::Instant;

fn double() -> WorkflowVersion<u32, u32> {
    Workflow::new("double").version("1.0.0", |_: Run, n: u32| async move { Ok::<_, Failure>(n * 2) })
}

/// One task of so many milliseconds.
fn lasting() -> WorkflowVersion<u64, u64> {
    let task = Task::new("last", |_: TaskContext, ms: u64| async move {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        Ok::<_, Failure>(ms)
    });
    Workflow::new("lasting").version("1.0.0", move |run: Run, ms: u64| {
        let task = task.clone();
        async move { Ok::<_, Failure>(task.start(&run, ms).await?) }
    })
}

#[tokio::test(start_paused = true)]
async fn stop_before_start_ends_the_worker() {
    let house = House::new().await;
    let worker = house.worker("early").build().unwrap();
    worker.workflow_registry().add(double());
    let report = worker.stop().await;
    assert_eq!(worker.status().phase, WorkerPhase::Stopped);
    assert_eq!(worker.start().await.unwrap(), report);
    double().start(&house.client, 1).await.unwrap();
    common::settle().await;
    assert_eq!(worker.status().totals.claimed, 0);
}

#[tokio::test(start_paused = true)]
async fn all_stops_and_starts_resolve_with_one_report() {
    let house = House::new().await;
    let worker = house.worker("many").build().unwrap();
    worker.workflow_registry().add(double());
    let (first, second) = (start(&worker), start(&worker));
    double().start(&house.client, 1).await.unwrap().wait().await.unwrap();
    let (a, b) = tokio::join!(worker.stop(), worker.stop());
    assert_eq!(a.totals.completed, 1, "the second start made a second worker");
    assert_eq!(a, b);
    assert_eq!(first.await.unwrap().unwrap(), a);
    assert_eq!(second.await.unwrap().unwrap(), a);
    assert_eq!(worker.stop().await, a);
    assert_eq!(worker.start().await.unwrap(), a);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_start_stops_the_worker_gracefully() {
    let house = House::new().await;
    let worker = house.worker("dropped").build().unwrap();
    worker.workflow_registry().add(lasting());
    let handle = lasting().start(&house.client, 2_000).await.unwrap();
    tokio::select! {
        _ = worker.start() => panic!("nobody stopped it"),
        () = tokio::time::sleep(Duration::from_secs(1)) => {}
    }
    let report = worker.stop().await;
    assert_eq!(report.finished, 1, "{report}");
    assert_eq!(handle.wait().await.unwrap(), 2_000);
}

#[tokio::test(start_paused = true)]
async fn dropping_a_second_start_changes_nothing() {
    let house = House::new().await;
    let worker = house.worker("steady").build().unwrap();
    worker.workflow_registry().add(double());
    start(&worker);
    until("it runs", || worker.status().phase == WorkerPhase::Running).await;
    assert!(tokio::time::timeout(Duration::from_secs(1), worker.start()).await.is_err());
    assert_eq!(double().start(&house.client, 1).await.unwrap().wait().await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn nothing_registered_is_an_error_that_can_be_mended() {
    let house = House::new().await;
    let worker = house.worker("empty").build().unwrap();
    assert_eq!(worker.start().await, Err(WorkerError::NothingRegistered));
    worker.workflow_registry().add(double());
    start(&worker);
    assert_eq!(double().start(&house.client, 1).await.unwrap().wait().await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_registration_is_refused_by_name() {
    let house = House::new().await;
    let worker = house.worker("twice").build().unwrap();
    worker.workflow_registry().add(double()).add(lasting()).add(double());
    let error = worker.start().await.unwrap_err();
    assert_eq!(error, WorkerError::DuplicateWorkflow(double().key().clone()));
    assert!(error.to_string().contains("double@1.0.0"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_after_the_start_is_logged_and_shown() {
    let logs = Logs::capture();
    let house = House::new().await;
    let worker = house.worker("late").build().unwrap();
    worker.workflow_registry().add(double());
    start(&worker);
    until("it runs", || worker.status().phase == WorkerPhase::Running).await;
    let other = Workflow::new("double").version("1.0.0", |_: Run, n: u32| async move { Ok::<_, Failure>(n * 100) });
    worker.workflow_registry().add(other);
    assert_eq!(worker.status().ignored_registrations, [double().key().clone()]);
    assert_eq!(logs.count("registered already"), 1);
    assert_eq!(double().start(&house.client, 1).await.unwrap().wait().await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_down_at_the_start_is_waited_for() {
    let logs = Logs::capture();
    let house = House::new().await;
    let (client, faults) = Faulty::wrap(&house.client);
    faults.down.store(true, Ordering::SeqCst);
    let worker = house.worker_for("patient", client).build().unwrap();
    worker.workflow_registry().add(double());
    let running = start(&worker);
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(worker.status().phase, WorkerPhase::Starting);
    let told = logs.count("the server cannot be reached");
    assert!((3..=5).contains(&told), "{told} lines in two minutes:\n{}", logs.text());
    assert!(!logs.text().contains("is unavailable"), "what the line says already:\n{}", logs.text());
    faults.down.store(false, Ordering::SeqCst);
    assert_eq!(double().start(&house.client, 1).await.unwrap().wait().await.unwrap(), 2);
    assert_eq!(logs.count("the server is back"), 1, "{}", logs.text());
    worker.stop().await;
    running.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_server_that_goes_away_is_told_now_and_then_and_not_by_every_run_that_waits_for_it() {
    let logs = Logs::capture();
    let house = House::new().await;
    let (client, faults) = Faulty::wrap(&house.client);
    let worker = house.worker_for("calm", client).max_concurrent_workflow_runs(20).build().unwrap();
    worker.workflow_registry().add(lasting());
    let running = start(&worker);
    for _ in 0..20 {
        lasting().start(&house.client, 5_000).await.unwrap();
    }
    until("all are at work", || worker.status().active.len() == 20).await;
    faults.down.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(40)).await;
    let told = logs.count("the server cannot be reached");
    assert_eq!(told, 2, "at the first failure and after 30 s:\n{}", logs.text());
    faults.down.store(false, Ordering::SeqCst);
    until("it is back", || logs.count("the server is back") == 1).await;
    worker.stop().await;
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_worker_that_stops_says_so_and_one_that_is_killed_does_not() {
    let house = House::new().await;
    let serves = async || {
        let workers = house.client.workers().await.unwrap();
        let of = |name: &str| workers.iter().find(|worker| worker.name.as_str().starts_with(name)).cloned();
        [of("told"), of("killed")]
            .map(|worker| worker.and_then(|worker| worker.serves).map(|told| !told.workflows.is_empty()))
    };
    let [told, killed] = ["told", "killed"].map(|name| {
        let worker = house.worker(name).build().unwrap();
        worker.workflow_registry().add(double());
        worker
    });
    let running = start(&told);
    let doomed = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let dying = killed.clone();
    doomed.spawn(async move { drop(dying.start().await) });
    let began = std::time::Instant::now();
    while serves().await != [Some(true), Some(true)] {
        assert!(began.elapsed() < Duration::from_secs(20), "both have said what they serve");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    doomed.shutdown_background();
    told.stop().await;
    running.await.unwrap().unwrap();
    assert_eq!(serves().await, [Some(false), Some(true)]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_the_waiting_for_a_server() {
    let house = House::new().await;
    let (client, faults) = Faulty::wrap(&house.client);
    faults.hanging.store(true, Ordering::SeqCst);
    let worker = house.worker_for("hanging", client).build().unwrap();
    worker.workflow_registry().add(double());
    let running = start(&worker);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let began = Instant::now();
    worker.stop().await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert!(running.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn bad_credentials_end_the_start() {
    let house = House::new().await;
    let (client, faults) = Faulty::wrap(&house.client);
    faults.unauthorized.store(true, Ordering::SeqCst);
    let worker = house.worker_for("stranger", client).build().unwrap();
    worker.workflow_registry().add(double());
    let error = worker.start().await.unwrap_err();
    assert!(matches!(&error, WorkerError::Unauthorized(reason) if reason.contains("key")), "{error}");
    assert_eq!(worker.status().phase, WorkerPhase::Stopped);
    assert!(worker.stop().await.is_clean());
}

#[derive(Debug)]
struct Broken {
    misconfigured: bool,
    mended: Arc<AtomicBool>,
    queue: aiki_subscriber_memory::MemoryQueue,
}

#[async_trait]
impl SubscriberFactory for Broken {
    async fn subscribe(&self, subscription: Subscription) -> Result<Box<dyn Subscriber>, SubscriberError> {
        if self.mended.load(Ordering::SeqCst) {
            return self.queue.subscribe(subscription).await;
        }
        Err(match self.misconfigured {
            true => SubscriberError::Misconfigured("no such database".into()),
            false => SubscriberError::Unavailable("connection refused".into()),
        })
    }
    fn claim_min_idle_time(&self) -> Option<Duration> {
        None
    }
}

#[tokio::test(start_paused = true)]
async fn a_misconfigured_subscriber_ends_the_start_and_an_absent_one_does_not() {
    let house = House::new().await;
    let mended = Arc::new(AtomicBool::new(false));
    let broken = |misconfigured| Broken { misconfigured, mended: mended.clone(), queue: house.queue.clone() };
    let worker = house.worker("wrong").subscriber(broken(true)).build().unwrap();
    worker.workflow_registry().add(double());
    assert_eq!(worker.start().await, Err(WorkerError::Misconfigured("no such database".into())));

    let worker = house.worker("absent").subscriber(broken(false)).backup_subscriber(false).build().unwrap();
    worker.workflow_registry().add(double());
    start(&worker);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(worker.status().phase, WorkerPhase::Starting);
    mended.store(true, Ordering::SeqCst);
    assert_eq!(double().start(&house.client, 1).await.unwrap().wait().await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_what_ends_in_time() {
    let house = House::new().await;
    let worker = house.worker("graceful").build().unwrap();
    worker.workflow_registry().add(lasting());
    start(&worker);
    let handle = lasting().start(&house.client, 3_000).await.unwrap();
    until("it is taken", || worker.status().active.len() == 1).await;
    let began = Instant::now();
    let report = worker.stop().await;
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert_eq!((report.finished, report.is_clean()), (1, true), "{report}");
    assert!(matches!(handle.state().await.unwrap(), RunState::Completed { .. }));
    assert_eq!(house.queue.held(), 0, "the delivery was not settled");
}

#[tokio::test(start_paused = true)]
async fn a_stop_hands_back_what_does_not_end_in_time() {
    let house = House::new().await;
    let worker = house.worker("leaving").graceful_shutdown_timeout(Duration::from_secs(2)).build().unwrap();
    worker.workflow_registry().add(lasting());
    start(&worker);
    let handle = lasting().start(&house.client, 30_000).await.unwrap();
    until("it is taken", || worker.status().active.len() == 1).await;
    let began = Instant::now();
    let report = worker.stop().await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(report.handed_back, [handle.id()], "{report}");
    assert!(report.abandoned.is_empty() && report.finished == 0);
    assert!(report.to_string().contains(&handle.id().to_string()), "{report}");

    // Another worker has it at once, long before the lease would have lapsed.
    let next = house.worker("arriving").build().unwrap();
    next.workflow_registry().add(lasting());
    let began = Instant::now();
    start(&next);
    until("the next worker has it", || next.status().active.len() == 1).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(handle.wait().await.unwrap(), 30_000);
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_a_server_that_hangs() {
    let house = House::new().await;
    let (client, faults) = Faulty::wrap(&house.client);
    let worker = house.worker_for("cut-off", client).graceful_shutdown_timeout(Duration::from_secs(1)).build().unwrap();
    worker.workflow_registry().add(lasting());
    start(&worker);
    let handle = lasting().start(&house.client, 30_000).await.unwrap();
    until("it is taken", || worker.status().active.len() == 1).await;
    faults.hanging.store(true, Ordering::SeqCst);
    let began = Instant::now();
    let report = worker.stop().await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(report.unconfirmed, [handle.id()], "{report}");
}
