//! One worker's subscription to the queue.

use std::time::Duration;

use aiki_core::subscriber::{DeliveryLease, Guarantees, Receipt, ReleaseDelay};
use aiki_core::{Delivery, Subscriber, SubscriberError, Subscription};
use async_trait::async_trait;
use tokio::time::{Instant, timeout_at};

use crate::broker::{ListenerId, WaiterId, later};
use crate::config::MemoryQueueConfig;
use crate::queue::MemoryQueue;

/// The pause after the first failure; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// The longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A subscription. Dropped without [`close`](Subscriber::close), what it holds stays held until the
/// lease lapses, as after a crash.
#[derive(Debug)]
pub(crate) struct MemorySubscriber {
    queue: MemoryQueue,
    id: ListenerId,
    config: MemoryQueueConfig,
}

impl MemorySubscriber {
    pub(crate) fn new(queue: MemoryQueue, subscription: &Subscription) -> Self {
        let mut broker = queue.lock();
        let (id, config) = (broker.subscribe(subscription), *broker.config());
        drop(broker);
        Self { queue, id, config }
    }
}

impl Drop for MemorySubscriber {
    fn drop(&mut self) {
        self.queue.lock().unsubscribe(self.id, false);
    }
}

/// Takes a waiting call off the books, also when its future is dropped.
struct Waiting<'a> {
    queue: &'a MemoryQueue,
    id: WaiterId,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.queue.lock().stop_waiting(self.id);
    }
}

#[async_trait]
impl Subscriber for MemorySubscriber {
    async fn receive(&self, limit: usize) -> Result<Vec<Delivery>, SubscriberError> {
        let end = later(Instant::now(), self.config.block_time);
        let mut waiting: Option<Waiting<'_>> = None;
        loop {
            let (notify, until) = {
                let mut broker = self.queue.lock();
                if broker.is_closed(self.id) {
                    return Err(SubscriberError::Closed);
                }
                // There is no await between this and the return: a dropped future has taken nothing.
                let now = Instant::now();
                let taken = broker.take(self.id, limit, now);
                if !taken.is_empty() || limit == 0 || now >= end {
                    return Ok(taken);
                }
                let (id, notify) = broker.wait(self.id, waiting.as_ref().map(|waiting| waiting.id));
                waiting.get_or_insert_with(|| Waiting { queue: &self.queue, id });
                (notify, broker.look_again_at(now).min(end))
            };
            // Woken or not, the queue is asked again.
            let _ = timeout_at(until, notify.notified()).await;
        }
    }

    async fn ack(&self, receipts: &[Receipt]) -> Result<(), SubscriberError> {
        let mut broker = self.queue.lock();
        if broker.is_closed(self.id) {
            return Err(SubscriberError::Closed);
        }
        broker.ack(self.id, receipts);
        Ok(())
    }

    async fn heartbeat(&self, receipts: &[Receipt]) -> Result<Vec<DeliveryLease>, SubscriberError> {
        let mut broker = self.queue.lock();
        if broker.is_closed(self.id) {
            return Err(SubscriberError::Closed);
        }
        Ok(broker.heartbeat(self.id, receipts, Instant::now()))
    }

    async fn release(&self, receipts: &[Receipt], delay: ReleaseDelay) -> Result<(), SubscriberError> {
        let mut broker = self.queue.lock();
        if broker.is_closed(self.id) {
            return Err(SubscriberError::Closed);
        }
        broker.release(self.id, receipts, delay, Instant::now());
        Ok(())
    }

    /// Nothing after an empty `receive`, which has waited by itself; otherwise 10 ms to 1 s.
    fn next_delay(&self, failures: u32) -> Duration {
        match failures {
            0 if self.config.block_time.is_zero() => FIRST_PAUSE,
            0 => Duration::ZERO,
            n => FIRST_PAUSE.saturating_mul(1 << (n - 1).min(16)).min(LONGEST_PAUSE),
        }
    }

    fn guarantees(&self) -> Guarantees {
        Guarantees { redelivers_after: Some(self.config.claim_min_idle_time), waits: !self.config.block_time.is_zero() }
    }

    async fn close(&self) -> Result<(), SubscriberError> {
        self.queue.lock().unsubscribe(self.id, true);
        Ok(())
    }
}
