//! Workers with more runs than go into one call.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aiki_core::subscriber::{DeliveryLease, Guarantees, Receipt, ReleaseDelay, SubscriberError, Subscription};
use aiki_core::{Delivery, Failure, Run, Subscriber, SubscriberFactory, Task, TaskContext, Workflow, WorkflowVersion};
use aiki_subscriber_memory::MemoryQueue;
use async_trait::async_trait;
use common::faulty::Faulty;
use common::{House, start};

const RUNS: usize = 1_100;
const MOST: usize = 500;

fn lasting() -> WorkflowVersion<u64, u64> {
    let work = Task::new("work", |_: TaskContext, secs: u64| async move {
        tokio::time::sleep(Duration::from_secs(secs)).await;
        Ok::<_, Failure>(secs)
    });
    Workflow::new("lasting").version("1.0.0", move |run: Run, secs: u64| {
        let work = work.clone();
        async move { Ok::<_, Failure>(work.start(&run, secs).await?) }
    })
}

/// A queue that remembers how many receipts were named in one call.
#[derive(Clone, Debug)]
struct Counting(MemoryQueue, Sizes);
struct CountingSubscriber(Box<dyn Subscriber>, Sizes);

#[derive(Clone, Debug, Default)]
struct Sizes(Arc<Mutex<Vec<(&'static str, usize)>>>);

impl Sizes {
    fn add(&self, call: &'static str, receipts: &[Receipt]) {
        self.0.lock().unwrap().push((call, receipts.len()));
    }

    /// The largest call and the sum of all.
    fn of(&self, call: &str) -> (usize, usize) {
        let sizes = self.0.lock().unwrap();
        let sizes = || sizes.iter().filter(|(name, _)| *name == call).map(|(_, size)| *size);
        (sizes().max().unwrap_or_default(), sizes().sum())
    }
}

#[async_trait]
impl SubscriberFactory for Counting {
    async fn subscribe(&self, subscription: Subscription) -> Result<Box<dyn Subscriber>, SubscriberError> {
        Ok(Box::new(CountingSubscriber(self.0.subscribe(subscription).await?, self.1.clone())))
    }
    fn claim_min_idle_time(&self) -> Option<Duration> {
        self.0.claim_min_idle_time()
    }
}

#[async_trait]
impl Subscriber for CountingSubscriber {
    async fn receive(&self, limit: usize) -> Result<Vec<Delivery>, SubscriberError> {
        self.0.receive(limit).await
    }
    async fn ack(&self, receipts: &[Receipt]) -> Result<(), SubscriberError> {
        self.1.add("ack", receipts);
        self.0.ack(receipts).await
    }
    async fn heartbeat(&self, receipts: &[Receipt]) -> Result<Vec<DeliveryLease>, SubscriberError> {
        self.1.add("heartbeat", receipts);
        self.0.heartbeat(receipts).await
    }
    async fn release(&self, receipts: &[Receipt], delay: ReleaseDelay) -> Result<(), SubscriberError> {
        self.1.add("release", receipts);
        self.0.release(receipts, delay).await
    }
    fn next_delay(&self, failures: u32) -> Duration {
        self.0.next_delay(failures)
    }
    fn guarantees(&self) -> Guarantees {
        self.0.guarantees()
    }
    async fn close(&self) -> Result<(), SubscriberError> {
        self.0.close().await
    }
}

#[tokio::test(start_paused = true)]
async fn more_claims_than_one_call_takes_are_kept_and_given_back() {
    let house = House::new().await;
    let (client, faults) = Faulty::wrap(&house.client);
    let sizes = Sizes::default();
    let worker = house
        .worker_for("wide", client)
        .subscriber(Counting(house.queue.clone(), sizes.clone()))
        .max_concurrent_workflow_runs(RUNS)
        .graceful_shutdown_timeout(Duration::from_millis(1))
        .build()
        .unwrap();
    worker.workflow_registry().add(lasting());
    start(&worker);
    // Two leases long; half of the runs would go on for an hour.
    for n in 0..RUNS {
        lasting().start(&house.client, if n < RUNS / 2 { 120 } else { 3_600 }).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(130)).await;
    let totals = worker.status().totals;
    assert_eq!((totals.claimed, totals.completed, totals.lost), (RUNS as u64, RUNS as u64 / 2, 0));
    for _ in 0..RUNS / 2 {
        lasting().start(&house.client, 3_600).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(worker.status().active.len(), RUNS);
    let report = worker.stop().await;
    assert_eq!((report.handed_back.len(), report.unconfirmed.len(), report.lost.len()), (RUNS, 0, 0));
    let most = |batches: &Mutex<Vec<usize>>| batches.lock().unwrap().iter().copied().max().unwrap();
    assert_eq!((most(&faults.refresh_batches), most(&faults.release_batches)), (MOST, MOST));
    assert_eq!(sizes.of("heartbeat").0, MOST);
    assert!(sizes.of("ack").0 <= MOST && sizes.of("ack").1 == RUNS / 2, "{:?}", sizes.of("ack"));
    assert_eq!(sizes.of("release"), (MOST, RUNS));
}

#[tokio::test(start_paused = true)]
async fn two_hundred_workers_that_start_at_once_share_the_work_and_double_none_of_it() {
    const WORKERS: usize = 200;
    let house = House::new().await;
    let workflow = lasting();
    let mut handles = Vec::new();
    for _ in 0..2 * WORKERS {
        handles.push(workflow.start(&house.client, 30).await.unwrap());
    }
    let workers: Vec<_> =
        (0..WORKERS).map(|n| house.worker(&format!("w{n}")).max_concurrent_workflow_runs(4).build().unwrap()).collect();
    for worker in &workers {
        worker.workflow_registry().add(&workflow);
        start(worker);
    }
    for handle in &handles {
        assert_eq!(handle.wait().await.unwrap(), 30);
        let record = handle.record().await.unwrap();
        assert_eq!((record.attempts, record.tasks.len()), (1, 1));
    }
    let (mut claimed, mut lost) = (0, 0);
    for worker in &workers {
        let totals = worker.stop().await.totals;
        claimed += totals.claimed;
        lost += totals.lost + totals.handed_back;
    }
    assert_eq!((claimed, lost), (2 * WORKERS as u64, 0));
    assert_eq!((house.queue.depth(), house.queue.delayed(), house.queue.held()), (0, 0, 0));
}
