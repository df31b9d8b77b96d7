//! What is under way when a pass is cut short or the worker stops.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aiki_core::run::RunStatus;
use aiki_core::{Failure, RetryStrategy, Run, Task, TaskContext, Workflow, WorkflowVersion};
use common::faulty::Faulty;
use common::logs::Logs;
use common::{House, start, until};
use tokio::time::Instant;

/// A task that cleans up for so many milliseconds when it is no longer wanted.
#[derive(Clone, Default)]
struct Tidy {
    began: Arc<AtomicUsize>,
    told: Arc<AtomicUsize>,
    tidied: Arc<AtomicUsize>,
    went_on: Arc<AtomicUsize>,
}

impl Tidy {
    fn workflow(&self) -> WorkflowVersion<u64, ()> {
        let tidy = self.clone();
        let work = Task::new("work", move |cx: TaskContext, ms: u64| {
            let tidy = tidy.clone();
            async move {
                tidy.began.fetch_add(1, Ordering::SeqCst);
                cx.cancellation().cancelled().await;
                tidy.told.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(ms)).await;
                tidy.tidied.fetch_add(1, Ordering::SeqCst);
                Ok::<_, Failure>(())
            }
        });
        let tidy = self.clone();
        let next = Task::new("next", move |_: TaskContext, (): ()| {
            tidy.went_on.fetch_add(1, Ordering::SeqCst);
            async move { Ok::<_, Failure>(()) }
        });
        Workflow::new("tidy").version("1.0.0", move |run: Run, ms: u64| {
            let (work, next) = (work.clone(), next.clone());
            async move {
                work.start(&run, ms).await?;
                Ok::<_, Failure>(next.start(&run, ()).await?)
            }
        })
    }

    /// How many bodies began, were told and ended cleaning up; how many tasks began after that.
    fn counts(&self) -> [usize; 4] {
        [&self.began, &self.told, &self.tidied, &self.went_on].map(|count| count.load(Ordering::SeqCst))
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_cleans_up_when_its_claim_is_lost_and_nothing_is_written() {
    for (takes, tidied) in [(50, 1), (3_000, 0)] {
        let house = House::new().await;
        let (client, faults) = Faulty::wrap(&house.client);
        let tidy = Tidy::default();
        let worker = house.worker_for("w", client).build().unwrap();
        worker.workflow_registry().add(tidy.workflow());
        start(&worker);
        let handle = tidy.workflow().start(&house.client, takes).await.unwrap();
        until("the body began", || tidy.counts()[0] == 1).await;
        let reports = faults.reports.load(Ordering::SeqCst);
        handle.cancel().await.unwrap();
        until("the body was told", || tidy.counts()[1] == 1).await;
        let told = Instant::now();
        until("the slot is free", || worker.status().active.is_empty()).await;
        assert!(told.elapsed() <= Duration::from_millis(120), "{:?}", told.elapsed());
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(tidy.counts(), [1, 1, tidied, 0]);
        assert_eq!(faults.reports.load(Ordering::SeqCst), reports, "written after the loss");
        assert_eq!(worker.stop().await.totals.lost, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_cleans_up_when_the_worker_stops_and_the_run_is_given_back() {
    for (takes, tidied) in [(0, 1), (300, 1), (3_000, 0)] {
        let house = House::new().await;
        let (client, faults) = Faulty::wrap(&house.client);
        let tidy = Tidy::default();
        let graceful = Duration::from_secs(2);
        let worker = house.worker_for("w", client).graceful_shutdown_timeout(graceful).build().unwrap();
        worker.workflow_registry().add(tidy.workflow());
        start(&worker);
        let handle = tidy.workflow().start(&house.client, takes).await.unwrap();
        until("the body began", || tidy.counts()[0] == 1).await;
        let (reports, began) = (faults.reports.load(Ordering::SeqCst), Instant::now());
        let report = worker.stop().await;
        // No longer than the body takes, and never longer than it may.
        let limit = Duration::from_millis(takes.min(400) + 50);
        assert!(began.elapsed() <= graceful + limit, "{:?}", began.elapsed());
        assert_eq!((report.handed_back, report.abandoned), (vec![handle.id()], vec![]));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(tidy.counts(), [1, 1, tidied, 0]);
        assert_eq!(faults.reports.load(Ordering::SeqCst), reports, "written although it was cut short");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_fails_when_told_is_not_tried_again_and_again() {
    let house = House::new().await;
    let began = Arc::new(AtomicUsize::new(0));
    let counted = began.clone();
    let hasty = Task::new("hasty", move |cx: TaskContext, (): ()| {
        counted.fetch_add(1, Ordering::SeqCst);
        async move {
            cx.cancellation().cancelled().await;
            Err::<(), _>(Failure::new("Stopped", "told to stop"))
        }
    });
    let hasty = hasty.retry(RetryStrategy::fixed(1_000_000, Duration::from_millis(1)));
    let workflow = Workflow::new("hasty").version("1.0.0", move |run: Run, (): ()| {
        let hasty = hasty.clone();
        async move { Ok::<_, Failure>(hasty.start(&run, ()).await?) }
    });
    let worker = house.worker("w").graceful_shutdown_timeout(Duration::ZERO).build().unwrap();
    worker.workflow_registry().add(&workflow);
    start(&worker);
    let handle = workflow.start(&house.client, ()).await.unwrap();
    until("the body began", || began.load(Ordering::SeqCst) == 1).await;
    assert_eq!(worker.stop().await.handed_back, [handle.id()]);
    assert_eq!(began.load(Ordering::SeqCst), 1);
}

fn double() -> WorkflowVersion<u32, u32> {
    Workflow::new("double").version("1.0.0", |_: Run, n: u32| async move { Ok::<_, Failure>(n * 2) })
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_is_answered_during_the_stop_is_given_back() {
    let house = House::new().await;
    let (client, faults) = Faulty::wrap(&house.client);
    faults.slow_claims.store(2_000, Ordering::SeqCst);
    let worker = house.worker_for("w", client).graceful_shutdown_timeout(Duration::ZERO).build().unwrap();
    worker.workflow_registry().add(double());
    start(&worker);
    let handle = double().start(&house.client, 1).await.unwrap();
    until("it is being claimed", || !faults.claim_batches.lock().unwrap().is_empty()).await;
    let report = worker.stop().await;
    assert_eq!((report.handed_back, report.unconfirmed), (vec![handle.id()], vec![]));
    // Another worker has it at once, not when a lease has lapsed.
    let other = house.worker("other").build().unwrap();
    other.workflow_registry().add(double());
    start(&other);
    let began = Instant::now();
    assert_eq!(handle.wait().await.unwrap(), 2);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_is_never_answered_neither_hangs_the_stop_nor_is_forgotten() {
    let logs = Logs::capture();
    let house = House::new().await;
    let (client, faults) = Faulty::wrap(&house.client);
    faults.slow_claims.store(3_600_000, Ordering::SeqCst);
    let worker = house.worker_for("w", client).graceful_shutdown_timeout(Duration::ZERO).build().unwrap();
    worker.workflow_registry().add(double());
    start(&worker);
    let handle = double().start(&house.client, 1).await.unwrap();
    until("it is being claimed", || !faults.claim_batches.lock().unwrap().is_empty()).await;
    let began = Instant::now();
    let report = worker.stop().await;
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert_eq!((report.handed_back, report.unconfirmed), (vec![], vec![handle.id()]));
    assert_eq!(logs.count("without an answer to its claim"), 1, "{}", logs.text());
    assert_eq!(house.queue.held(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_until_what_was_claimed_without_a_transport_is_given_back() {
    let house = House::new().await;
    let (client, faults) = Faulty::wrap(&house.client);
    faults.slow_claims.store(1_500, Ordering::SeqCst);
    let handle = double().start(&house.client, 1).await.unwrap();
    let worker = house.claiming_worker("w", client).build().unwrap();
    worker.workflow_registry().add(double());
    // Old enough to be given to whoever asks.
    tokio::time::sleep(Duration::from_secs(1)).await;
    start(&worker);
    tokio::time::sleep(Duration::from_millis(500)).await;
    worker.stop().await;
    assert_eq!(*faults.release_batches.lock().unwrap(), [1], "given back before the stop ends");
    assert_eq!(handle.state().await.unwrap().status(), RunStatus::Queued);
}
