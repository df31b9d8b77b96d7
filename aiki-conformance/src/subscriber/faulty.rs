//! A decorator that disturbs, reproducibly.

use std::sync::Arc;
use std::time::Duration;

use aiki_core::subscriber::{DeliveryLease, Guarantees, Receipt, ReleaseDelay};
use aiki_core::{Delivery, Subscriber, SubscriberError, SubscriberFactory, Subscription};
use async_trait::async_trait;

use super::chance::Chance;

/// What goes wrong and how often. All of it is allowed to a transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Faults {
    /// The same seed and the same calls make the same faults.
    pub seed: u64,
    /// Calls in a thousand that fail as [`SubscriberError::Unavailable`]. A failing `receive` or
    /// `subscribe` had no effect; of the other calls about half took effect and only their answer was
    /// lost.
    pub unavailable_per_mille: u16,
    /// Deliveries in a thousand that are delivered twice in one batch, under one receipt, if the limit
    /// leaves room.
    pub duplicate_per_mille: u16,
    /// Calls in a thousand that take longer.
    pub delay_per_mille: u16,
    /// How much longer at most, by tokio's clock.
    pub longest_delay: Duration,
}

impl Faults {
    /// One call in ten fails, one delivery in ten comes twice, one call in ten takes up to 100 ms longer.
    pub fn seeded(seed: u64) -> Self {
        Self {
            seed,
            unavailable_per_mille: 100,
            duplicate_per_mille: 100,
            delay_per_mille: 100,
            longest_delay: Duration::from_millis(100),
        }
    }
}

/// Passes calls on to another factory and its subscribers, with [`Faults`].
#[derive(Clone, Debug)]
pub struct FaultySubscribers<F> {
    inner: F,
    disturbance: Arc<Disturbance>,
}

impl<F> FaultySubscribers<F> {
    /// Disturbs what goes to `inner`. Clones draw from one sequence.
    pub fn new(inner: F, faults: Faults) -> Self {
        Self { inner, disturbance: Arc::new(Disturbance { chance: Chance::new(faults.seed), faults }) }
    }
}

#[async_trait]
impl<F: SubscriberFactory> SubscriberFactory for FaultySubscribers<F> {
    async fn subscribe(&self, subscription: Subscription) -> Result<Box<dyn Subscriber>, SubscriberError> {
        self.disturbance.delay().await;
        self.disturbance.fail("subscribe")?;
        let inner = self.inner.subscribe(subscription).await?;
        Ok(Box::new(Faulty { inner, disturbance: self.disturbance.clone() }))
    }

    fn claim_min_idle_time(&self) -> Option<Duration> {
        self.inner.claim_min_idle_time()
    }

    fn claims_from_server(&self) -> bool {
        self.inner.claims_from_server()
    }
}

#[derive(Debug)]
struct Disturbance {
    chance: Chance,
    faults: Faults,
}

impl Disturbance {
    async fn delay(&self) {
        if self.chance.happens(self.faults.delay_per_mille) {
            tokio::time::sleep(self.chance.pause(self.faults.longest_delay)).await;
        }
    }

    fn fail(&self, call: &str) -> Result<(), SubscriberError> {
        if self.chance.happens(self.faults.unavailable_per_mille) {
            return Err(SubscriberError::Unavailable(format!("injected into {call}, seed {}", self.faults.seed)));
        }
        Ok(())
    }

    /// Fails about every second time that a call is to fail; the other time [`fail_after`](Self::fail_after) does.
    fn fail_before(&self, call: &str) -> Result<(), SubscriberError> {
        if self.chance.happens(500) { self.fail(call) } else { Ok(()) }
    }

    fn fail_after(&self, call: &str) -> Result<(), SubscriberError> {
        self.fail_before(call)
    }

    fn duplicate(&self, deliveries: &mut Vec<Delivery>, limit: usize) {
        let twice: Vec<_> =
            deliveries.iter().filter(|_| self.chance.happens(self.faults.duplicate_per_mille)).cloned().collect();
        deliveries.extend(twice.into_iter().take(limit.saturating_sub(deliveries.len())));
    }
}

struct Faulty {
    inner: Box<dyn Subscriber>,
    disturbance: Arc<Disturbance>,
}

#[async_trait]
impl Subscriber for Faulty {
    async fn receive(&self, limit: usize) -> Result<Vec<Delivery>, SubscriberError> {
        self.disturbance.delay().await;
        self.disturbance.fail("receive")?;
        // Nothing may wait from here on: what was received would be lost with the future.
        let mut deliveries = self.inner.receive(limit).await?;
        self.disturbance.duplicate(&mut deliveries, limit);
        Ok(deliveries)
    }

    async fn ack(&self, receipts: &[Receipt]) -> Result<(), SubscriberError> {
        self.disturbance.delay().await;
        self.disturbance.fail_before("ack")?;
        self.inner.ack(receipts).await?;
        self.disturbance.fail_after("ack")
    }

    async fn heartbeat(&self, receipts: &[Receipt]) -> Result<Vec<DeliveryLease>, SubscriberError> {
        self.disturbance.delay().await;
        self.disturbance.fail_before("heartbeat")?;
        let leases = self.inner.heartbeat(receipts).await?;
        self.disturbance.fail_after("heartbeat")?;
        Ok(leases)
    }

    async fn release(&self, receipts: &[Receipt], delay: ReleaseDelay) -> Result<(), SubscriberError> {
        self.disturbance.delay().await;
        self.disturbance.fail_before("release")?;
        self.inner.release(receipts, delay).await?;
        self.disturbance.fail_after("release")
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

    /// The inner subscription is over, also when this fails.
    async fn close(&self) -> Result<(), SubscriberError> {
        self.disturbance.delay().await;
        self.inner.close().await?;
        self.disturbance.fail("close")
    }
}
