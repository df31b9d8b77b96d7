//! What the tests of deliveries share: the workflow `orders` of the namespace `test`, and ways to wait.

#![allow(clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use std::collections::BTreeSet;
use std::time::Duration;

use aiki_core::subscriber::{DeliveryLease, Receipt};
use aiki_core::{Delivery, Name, Priority, Publisher, ReadyRun, RunId, Subscriber, SubscriberError, SubscriberFactory};
use aiki_core::{Subscription, WorkflowKey};
use aiki_subscriber_redis::{Health, RedisPublisher, RedisStreams};
use tokio::time::{Instant, sleep, timeout};

/// C of the fast profile.
pub const LEASE: Duration = Duration::from_secs(2);
/// H of the fast profile.
pub const HEARTBEAT: Duration = Duration::from_millis(500);
/// S of the fast profile, with the most that jitter adds.
pub const SWEEP: Duration = Duration::from_millis(625);
/// B of the fast profile.
pub const BLOCK: Duration = Duration::from_millis(200);
/// What a worker held is with somebody else so long after its death: C + S + 1 s.
pub const RECOVERED: Duration = LEASE.saturating_add(SWEEP).saturating_add(Duration::from_secs(1));
/// Everything is well again by then.
pub const SOON: Duration = Duration::from_secs(10);
/// The stream of `orders`.
pub const STREAM: &str = "aiki:wf:{test/default}:user:orders:1.0.0";

/// A factory and a publisher over one Redis, with the times of the fast profile.
#[derive(Debug)]
pub struct Bench {
    /// Makes subscriptions.
    pub factory: RedisStreams,
    /// Announces runs.
    pub publisher: RedisPublisher,
}

impl Bench {
    /// Over the Redis at this URL.
    ///
    /// # Panics
    /// When it is no URL.
    pub fn at(url: &str) -> Self {
        let url: aiki_subscriber_redis::RedisUrl = url.parse().expect("a good URL");
        let factory = RedisStreams::new(url.clone()).claim_min_idle_time(LEASE).block_time(BLOCK);
        Self { factory, publisher: RedisPublisher::new(url) }
    }

    /// Reads that wait long enough for a test to be sure of finding one that waits.
    pub fn long_reads(mut self) -> Self {
        self.factory = self.factory.block_time(Duration::from_secs(5));
        self
    }

    /// Leases that no test sees the end of.
    pub fn slow_lease(mut self) -> Self {
        self.factory = self.factory.claim_min_idle_time(Duration::from_secs(600));
        self
    }

    /// A subscription to these workflows.
    ///
    /// # Errors
    /// As the factory says.
    pub async fn subscribe_to(&self, worker: &str, workflows: &[&str]) -> Result<Box<dyn Subscriber>, SubscriberError> {
        let subscription = Subscription {
            worker: Name::new(worker),
            namespace: Name::new("test"),
            workflows: workflows.iter().map(|name| WorkflowKey::user(*name, "1.0.0")).collect(),
            pools: Vec::new(),
        };
        self.factory.subscribe(subscription).await
    }

    /// A subscription to `orders`.
    ///
    /// # Panics
    /// When there is none.
    pub async fn subscribe(&self, worker: &str) -> Box<dyn Subscriber> {
        self.subscribe_to(worker, &["orders"]).await.expect("a subscription")
    }

    /// Announces all of these runs.
    ///
    /// # Panics
    /// When one was refused.
    pub async fn publish(&self, runs: &[ReadyRun]) {
        assert_eq!(self.publisher.publish(runs).await.failed, []);
    }

    /// How the first live subscription is doing.
    ///
    /// # Panics
    /// When there is none.
    pub fn health(&self) -> Health {
        self.factory.health().into_iter().next().expect("a live subscription")
    }
}

/// So many runs of a workflow, the same ones each time.
pub fn runs_of(workflow: &str, count: u32) -> Vec<ReadyRun> {
    let run = |number| ReadyRun {
        id: RunId::from_bits((1 + u128::from(number)) << 24),
        namespace: Name::new("test"),
        workflow: WorkflowKey::user(workflow, "1.0.0"),
        pool: None,
        priority: Priority::Normal,
    };
    (0..count).map(run).collect()
}

/// So many runs of `orders`, the same ones each time.
pub fn runs(count: u32) -> Vec<ReadyRun> {
    runs_of("orders", count)
}

/// Their ids.
pub fn ids(runs: &[ReadyRun]) -> BTreeSet<RunId> {
    runs.iter().map(|run| run.id).collect()
}

/// Their receipts.
pub fn receipts(deliveries: &[Delivery]) -> Vec<Receipt> {
    deliveries.iter().map(|delivery| delivery.receipt.clone()).collect()
}

/// Receives until so many different runs came, through whatever trouble.
///
/// # Panics
/// When they do not come soon.
pub async fn collect(from: &dyn Subscriber, count: usize) -> Vec<Delivery> {
    let (mut all, mut seen) = (Vec::new(), BTreeSet::new());
    let work = async {
        let mut failures = 0;
        while seen.len() < count {
            match from.receive(16).await {
                Ok(some) => {
                    failures = 0;
                    all.extend(some.into_iter().filter(|delivery| seen.insert(delivery.run)));
                }
                Err(SubscriberError::Unavailable(_)) => {
                    failures += 1;
                    sleep(from.next_delay(failures)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    };
    assert!(timeout(SOON, work).await.is_ok(), "{} of {count} runs were delivered", all.len());
    all
}

/// Renews, asking until there is an answer.
///
/// # Panics
/// When there is none soon.
pub async fn heartbeat(by: &dyn Subscriber, deliveries: &[Delivery]) -> Vec<DeliveryLease> {
    let receipts = receipts(deliveries);
    let work = async {
        loop {
            match by.heartbeat(&receipts).await {
                Ok(leases) => return leases,
                Err(SubscriberError::Unavailable(_)) => sleep(by.next_delay(1)).await,
                Err(error) => panic!("{error}"),
            }
        }
    };
    timeout(SOON, work).await.expect("an answer")
}

/// Until `done`, polled.
///
/// # Panics
/// When it is not done soon.
pub async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let work = async {
        while !done().await {
            sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(SOON, work).await.is_ok(), "never: {what}");
}

/// Keeps the deliveries alive as a worker does, for so long: a heartbeat that fails is not repeated before the next
/// one is due. Answers the last leases.
///
/// # Panics
/// When there is no answer at the end.
pub async fn keep(by: &dyn Subscriber, held: &[Delivery], during: Duration) -> Vec<DeliveryLease> {
    let end = Instant::now() + during;
    while Instant::now() < end {
        // The subscriber alone has to make up for it.
        let _ = by.heartbeat(&receipts(held)).await;
        sleep(HEARTBEAT).await;
    }
    heartbeat(by, held).await
}

/// Nobody else gets anything for so long.
///
/// # Panics
/// When somebody does.
pub async fn nothing(to: &dyn Subscriber, during: Duration) {
    let end = Instant::now() + during;
    while Instant::now() < end {
        match to.receive(16).await {
            Ok(some) => assert_eq!(some, [], "taken over from a live worker"),
            Err(_) => sleep(to.next_delay(1)).await,
        }
    }
}
