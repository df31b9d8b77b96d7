//! The transport between the server and the workers of the simulation, and what goes wrong on it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aiki_core::subscriber::{DeliveryLease, Guarantees, Receipt, ReleaseDelay};
use aiki_core::{
    Delivery, PublishReport, Publisher, ReadyRun, Subscriber, SubscriberError, SubscriberFactory, Subscription,
};
use async_trait::async_trait;
use tokio::time::sleep;

use super::bug::Bug;
use super::process::Process;
use super::world::{LEASE, World, lock};
use crate::history::{Fault, What};

/// The server's end.
pub(crate) struct Announcements(pub(crate) Arc<World>);

#[async_trait]
impl Publisher for Announcements {
    async fn publish(&self, runs: &[ReadyRun]) -> PublishReport {
        let world = &self.0;
        if world.transport.down.load(Ordering::SeqCst) {
            let failed = runs.iter().map(|run| (run.id, "the transport is away".to_owned())).collect();
            return PublishReport { failed };
        }
        let mut arrive = Vec::with_capacity(runs.len());
        for run in runs {
            world.note(What::Published { run: run.id });
            if world.goes_wrong(40) {
                world.fault(Fault::AnnouncementLost, None);
            } else if world.bug != Some(Bug::NoDelivery) {
                arrive.push(run.clone());
            }
        }
        world.transport.queue().publish(&arrive).await
    }
}

/// A worker's end.
#[derive(Clone)]
pub(crate) struct Deliveries {
    pub(crate) world: Arc<World>,
    pub(crate) process: Arc<Process>,
}

impl fmt::Debug for Deliveries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deliveries").finish_non_exhaustive()
    }
}

impl Deliveries {
    async fn reach(&self) -> Result<(), SubscriberError> {
        self.process.alive().await;
        if self.world.transport.down.load(Ordering::SeqCst) {
            return Err(SubscriberError::Unavailable("the transport is away".into()));
        }
        Ok(())
    }
}

#[async_trait]
impl SubscriberFactory for Deliveries {
    async fn subscribe(&self, subscription: Subscription) -> Result<Box<dyn Subscriber>, SubscriberError> {
        self.reach().await?;
        let generation = self.world.transport.generation.load(Ordering::SeqCst);
        let inner = Arc::from(self.world.transport.queue().subscribe(subscription.clone()).await?);
        Ok(Box::new(Subscribed {
            ends: self.clone(),
            subscription,
            inner: Mutex::new((generation, inner)),
            own: Mutex::default(),
        }))
    }

    fn claim_min_idle_time(&self) -> Option<Duration> {
        Some(LEASE)
    }
}

struct Subscribed {
    ends: Deliveries,
    subscription: Subscription,
    inner: Mutex<(u64, Arc<dyn Subscriber>)>,
    /// What it was given so far.
    own: Mutex<BTreeSet<Receipt>>,
}

impl Subscribed {
    /// The subscription to the queue that there is now.
    async fn inner(&self) -> Result<Arc<dyn Subscriber>, SubscriberError> {
        let generation = self.ends.world.transport.generation.load(Ordering::SeqCst);
        let (known, inner) = lock(&self.inner).clone();
        if known == generation {
            return Ok(inner);
        }
        self.ends.world.took("subscribed again after the transport had lost everything");
        let queue = self.ends.world.transport.queue();
        let fresh: Arc<dyn Subscriber> = Arc::from(queue.subscribe(self.subscription.clone()).await?);
        *lock(&self.inner) = (generation, Arc::clone(&fresh));
        let mut held = lock(&self.ends.world.transport.held);
        if let Some(own) = held.get_mut(&self.ends.process.name()) {
            lock(&self.own).iter().for_each(|receipt| {
                own.remove(receipt);
            });
        }
        Ok(fresh)
    }

    fn forget(&self, receipts: &[Receipt], acked: bool) {
        let world = &self.ends.world;
        let mut held = lock(&world.transport.held);
        let Some(own) = held.get_mut(&self.ends.process.name()) else { return };
        for receipt in receipts {
            if let Some(run) = own.remove(receipt).filter(|_| acked) {
                let (worker, receipt) = (self.ends.process.name(), receipt.0.clone());
                world.note(What::Acked { run, worker, receipt });
            }
        }
    }

    fn hold(&self, deliveries: &[Delivery]) {
        let world = &self.ends.world;
        let mut held = lock(&world.transport.held);
        let own = held.entry(self.ends.process.name()).or_default();
        for delivery in deliveries {
            own.insert(delivery.receipt.clone(), delivery.run);
            lock(&self.own).insert(delivery.receipt.clone());
            let (worker, receipt) = (self.ends.process.name(), delivery.receipt.0.clone());
            world.note(What::Delivered { run: delivery.run, worker, receipt });
        }
    }

    fn copy(&self, limit: usize) -> Option<Delivery> {
        if limit == 0 {
            return None;
        }
        lock(&self.ends.world.transport.copies).pop_front()
    }
}

#[async_trait]
impl Subscriber for Subscribed {
    async fn receive(&self, limit: usize) -> Result<Vec<Delivery>, SubscriberError> {
        let (world, process) = (&self.ends.world, &self.ends.process);
        self.ends.reach().await?;
        if world.goes_wrong(30) {
            world.fault(Fault::DeliveryDelayed, Some(process));
            sleep(Duration::from_millis(world.chance.within(50, 3_000))).await;
            self.ends.reach().await?;
        }
        let inner = self.inner().await?;
        if let Some(copy) = self.copy(limit) {
            self.hold(std::slice::from_ref(&copy));
            return Ok(vec![copy]);
        }
        // Nothing may wait from here on: what was received would be lost with the future.
        let mut deliveries = inner.receive(limit).await?;
        if process.is_dead() || deliveries.is_empty() {
            return Ok(Vec::new());
        }
        if world.goes_wrong(20) {
            world.fault(Fault::DeliveryLost, Some(process));
            return Err(SubscriberError::Unavailable("the answer was lost".into()));
        }
        for at in 0..deliveries.len() {
            if world.goes_wrong(60) {
                world.fault(Fault::DeliveryDuplicated, Some(process));
                let mut copy = deliveries[at].clone();
                if world.chance.happens(500) && deliveries.len() < limit {
                    deliveries.push(copy);
                } else {
                    copy.receipt = Receipt(format!("copy-{}", world.next_number()));
                    lock(&world.transport.copies).push_back(copy);
                }
            }
        }
        self.hold(&deliveries);
        if world.bug == Some(Bug::EarlyAck) {
            let receipts: Vec<_> = deliveries.iter().map(|delivery| delivery.receipt.clone()).collect();
            inner.ack(&receipts).await?;
            self.forget(&receipts, true);
        }
        Ok(deliveries)
    }

    async fn ack(&self, receipts: &[Receipt]) -> Result<(), SubscriberError> {
        self.ends.reach().await?;
        let inner = self.inner().await?;
        if self.ends.world.goes_wrong(20) {
            self.ends.world.fault(Fault::AckLost, Some(&self.ends.process));
            return Err(SubscriberError::Unavailable("the request was lost".into()));
        }
        inner.ack(receipts).await?;
        self.forget(receipts, true);
        Ok(())
    }

    async fn heartbeat(&self, receipts: &[Receipt]) -> Result<Vec<DeliveryLease>, SubscriberError> {
        self.ends.reach().await?;
        self.inner().await?.heartbeat(receipts).await
    }

    async fn release(&self, receipts: &[Receipt], delay: ReleaseDelay) -> Result<(), SubscriberError> {
        self.ends.reach().await?;
        self.inner().await?.release(receipts, delay).await?;
        self.forget(receipts, false);
        Ok(())
    }

    fn next_delay(&self, failures: u32) -> Duration {
        match failures {
            0 => Duration::ZERO,
            failures => Duration::from_millis(50).saturating_mul(1 << failures.min(5)),
        }
    }

    fn guarantees(&self) -> Guarantees {
        Guarantees { redelivers_after: Some(LEASE), waits: true }
    }

    async fn close(&self) -> Result<(), SubscriberError> {
        self.ends.process.alive().await;
        let inner = self.inner().await?;
        inner.close().await?;
        let receipts: Vec<_> = std::mem::take(&mut *lock(&self.own)).into_iter().collect();
        self.forget(&receipts, false);
        Ok(())
    }
}
