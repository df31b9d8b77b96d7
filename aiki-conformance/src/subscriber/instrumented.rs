//! A decorator that counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aiki_core::subscriber::{DeliveryLease, Guarantees, Receipt, ReleaseDelay};
use aiki_core::{Delivery, Subscriber, SubscriberError, SubscriberFactory, Subscription};
use async_trait::async_trait;

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// How often what was called, over all subscriptions of a factory.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counts {
            $($(#[$doc])* pub $name: u64,)*
        }

        #[derive(Debug, Default)]
        struct Counters {
            $($name: AtomicU64,)*
        }

        impl Counters {
            fn read(&self) -> Counts {
                Counts { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counts! {
    /// Subscriptions that were begun.
    subscriptions,
    /// Calls of `receive`, those that were dropped included.
    receives,
    /// Calls of `receive` that were answered without a delivery.
    empty_receives,
    /// Deliveries.
    deliveries,
    /// Calls of `ack`.
    acks,
    /// Receipts in calls of `ack`.
    acked,
    /// Calls of `heartbeat`.
    heartbeats,
    /// Deliveries that a heartbeat found to be no longer the subscriber's.
    leases_lost,
    /// Calls of `release`.
    releases,
    /// Receipts in calls of `release`.
    released,
    /// Calls of `close`.
    closes,
    /// Calls that were answered with an error, whichever.
    errors,
}

fn add(counter: &AtomicU64, amount: usize) {
    counter.fetch_add(amount as u64, Ordering::Relaxed);
}

/// Passes everything on to another factory and its subscribers, and counts it.
#[derive(Clone, Debug)]
pub struct InstrumentedSubscribers<F> {
    inner: F,
    counters: Arc<Counters>,
}

impl<F> InstrumentedSubscribers<F> {
    /// Counts what goes to `inner`. Clones count together.
    pub fn new(inner: F) -> Self {
        Self { inner, counters: Arc::default() }
    }

    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        self.counters.read()
    }
}

#[async_trait]
impl<F: SubscriberFactory> SubscriberFactory for InstrumentedSubscribers<F> {
    async fn subscribe(&self, subscription: Subscription) -> Result<Box<dyn Subscriber>, SubscriberError> {
        add(&self.counters.subscriptions, 1);
        let inner = note_error(&self.counters, self.inner.subscribe(subscription).await)?;
        Ok(Box::new(Instrumented { inner, counters: self.counters.clone() }))
    }

    fn claim_min_idle_time(&self) -> Option<Duration> {
        self.inner.claim_min_idle_time()
    }

    fn claims_from_server(&self) -> bool {
        self.inner.claims_from_server()
    }
}

struct Instrumented {
    inner: Box<dyn Subscriber>,
    counters: Arc<Counters>,
}

fn note_error<T>(counters: &Counters, result: Result<T, SubscriberError>) -> Result<T, SubscriberError> {
    if result.is_err() {
        add(&counters.errors, 1);
    }
    result
}

#[async_trait]
impl Subscriber for Instrumented {
    async fn receive(&self, limit: usize) -> Result<Vec<Delivery>, SubscriberError> {
        add(&self.counters.receives, 1);
        let deliveries = note_error(&self.counters, self.inner.receive(limit).await)?;
        add(&self.counters.deliveries, deliveries.len());
        add(&self.counters.empty_receives, usize::from(deliveries.is_empty()));
        Ok(deliveries)
    }

    async fn ack(&self, receipts: &[Receipt]) -> Result<(), SubscriberError> {
        add(&self.counters.acks, 1);
        add(&self.counters.acked, receipts.len());
        note_error(&self.counters, self.inner.ack(receipts).await)
    }

    async fn heartbeat(&self, receipts: &[Receipt]) -> Result<Vec<DeliveryLease>, SubscriberError> {
        add(&self.counters.heartbeats, 1);
        let leases = note_error(&self.counters, self.inner.heartbeat(receipts).await)?;
        add(&self.counters.leases_lost, leases.iter().filter(|lease| **lease != DeliveryLease::Mine).count());
        Ok(leases)
    }

    async fn release(&self, receipts: &[Receipt], delay: ReleaseDelay) -> Result<(), SubscriberError> {
        add(&self.counters.releases, 1);
        add(&self.counters.released, receipts.len());
        note_error(&self.counters, self.inner.release(receipts, delay).await)
    }

    fn next_delay(&self, failures: u32) -> Duration {
        self.inner.next_delay(failures)
    }

    fn guarantees(&self) -> Guarantees {
        self.inner.guarantees()
    }

    fn since_answer(&self) -> Option<Duration> {
        self.inner.since_answer()
    }

    async fn close(&self) -> Result<(), SubscriberError> {
        add(&self.counters.closes, 1);
        note_error(&self.counters, self.inner.close().await)
    }
}
