//! A queue that can go away, with or without what is in it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aiki_core::subscriber::{DeliveryLease, Guarantees, Receipt, ReleaseDelay};
use aiki_core::{
    Delivery, PublishReport, Publisher, ReadyRun, Subscriber, SubscriberError, SubscriberFactory, Subscription,
};
use aiki_subscriber_memory::MemoryQueue;
use async_trait::async_trait;

#[derive(Clone, Debug, Default)]
pub(crate) struct Breakable {
    queue: Arc<Mutex<MemoryQueue>>,
    down: Arc<AtomicBool>,
    /// Deliveries that came through it.
    delivered: Arc<AtomicUsize>,
}

impl Breakable {
    pub(crate) fn break_down(&self) {
        self.down.store(true, Ordering::SeqCst);
    }

    /// Goes away for good with all that is in it; an empty one takes its place.
    pub(crate) fn lose_everything(&self) {
        self.break_down();
        *self.queue.lock().unwrap() = MemoryQueue::new();
    }

    pub(crate) fn come_back(&self) {
        self.down.store(false, Ordering::SeqCst);
    }

    pub(crate) fn delivered(&self) -> usize {
        self.delivered.load(Ordering::SeqCst)
    }

    pub(crate) fn queue(&self) -> MemoryQueue {
        self.queue.lock().unwrap().clone()
    }

    fn gate(&self) -> Result<(), SubscriberError> {
        match self.down.load(Ordering::SeqCst) {
            true => Err(SubscriberError::Unavailable("the queue is away".into())),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Publisher for Breakable {
    async fn publish(&self, runs: &[ReadyRun]) -> PublishReport {
        match self.gate() {
            Ok(()) => self.queue().publish(runs).await,
            Err(error) => PublishReport { failed: runs.iter().map(|run| (run.id, error.to_string())).collect() },
        }
    }
}

#[async_trait]
impl SubscriberFactory for Breakable {
    async fn subscribe(&self, subscription: Subscription) -> Result<Box<dyn Subscriber>, SubscriberError> {
        self.gate()?;
        let inner = self.queue().subscribe(subscription).await?;
        Ok(Box::new(BreakableSubscriber { inner, breakable: self.clone() }))
    }

    fn claim_min_idle_time(&self) -> Option<Duration> {
        self.queue().claim_min_idle_time()
    }
}

struct BreakableSubscriber {
    inner: Box<dyn Subscriber>,
    breakable: Breakable,
}

#[async_trait]
impl Subscriber for BreakableSubscriber {
    async fn receive(&self, limit: usize) -> Result<Vec<Delivery>, SubscriberError> {
        self.breakable.gate()?;
        let deliveries = self.inner.receive(limit).await?;
        if deliveries.is_empty() {
            // It may have gone away meanwhile.
            self.breakable.gate()?;
        }
        self.breakable.delivered.fetch_add(deliveries.len(), Ordering::SeqCst);
        Ok(deliveries)
    }

    async fn ack(&self, receipts: &[Receipt]) -> Result<(), SubscriberError> {
        self.breakable.gate()?;
        self.inner.ack(receipts).await
    }

    async fn heartbeat(&self, receipts: &[Receipt]) -> Result<Vec<DeliveryLease>, SubscriberError> {
        self.breakable.gate()?;
        self.inner.heartbeat(receipts).await
    }

    async fn release(&self, receipts: &[Receipt], delay: ReleaseDelay) -> Result<(), SubscriberError> {
        self.breakable.gate()?;
        self.inner.release(receipts, delay).await
    }

    fn next_delay(&self, failures: u32) -> Duration {
        match failures {
            0 => Duration::ZERO,
            failures => Duration::from_millis(50).saturating_mul(1 << failures.min(6)),
        }
    }

    fn guarantees(&self) -> Guarantees {
        self.inner.guarantees()
    }

    async fn close(&self) -> Result<(), SubscriberError> {
        self.inner.close().await
    }
}
