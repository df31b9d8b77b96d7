//! A worker's subscriber: it notes what it received and what it settled.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aiki_core::subscriber::{DeliveryLease, Guarantees, Receipt, ReleaseDelay};
use aiki_core::{Delivery, RunId, Subscriber, SubscriberError, SubscriberFactory, Subscription};
use async_trait::async_trait;

use super::bug::Bug;
use super::notes::{Note, Notes};

/// Makes subscribers that write down what they do.
pub struct Deliveries<F> {
    inner: F,
    notes: Notes,
    bug: Option<Bug>,
}

impl<F> Deliveries<F> {
    /// Around another factory.
    pub fn new(inner: F, notes: Notes, bug: Option<Bug>) -> Self {
        Self { inner, notes, bug }
    }
}

impl<F> fmt::Debug for Deliveries<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deliveries").finish_non_exhaustive()
    }
}

#[async_trait]
impl<F: SubscriberFactory> SubscriberFactory for Deliveries<F> {
    async fn subscribe(&self, subscription: Subscription) -> Result<Box<dyn Subscriber>, SubscriberError> {
        let inner = Arc::from(self.inner.subscribe(subscription).await?);
        Ok(Box::new(Noting { inner, notes: self.notes.clone(), bug: self.bug, runs: Mutex::default() }))
    }

    fn claim_min_idle_time(&self) -> Option<Duration> {
        self.inner.claim_min_idle_time()
    }

    fn claims_from_server(&self) -> bool {
        self.inner.claims_from_server()
    }
}

struct Noting {
    inner: Arc<dyn Subscriber>,
    notes: Notes,
    bug: Option<Bug>,
    /// What is held, by its receipt.
    runs: Mutex<HashMap<Receipt, RunId>>,
}

impl Noting {
    fn forget(&self, receipts: &[Receipt]) -> Vec<(RunId, String)> {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        receipts.iter().filter_map(|receipt| Some((runs.remove(receipt)?, receipt.0.clone()))).collect()
    }
}

#[async_trait]
impl Subscriber for Noting {
    async fn receive(&self, limit: usize) -> Result<Vec<Delivery>, SubscriberError> {
        let deliveries = self.inner.receive(limit).await?;
        for Delivery { run, receipt, .. } in &deliveries {
            self.notes.write(Note::Delivered { run: *run, receipt: receipt.0.clone() });
            self.runs.lock().unwrap_or_else(PoisonError::into_inner).insert(receipt.clone(), *run);
        }
        if self.bug == Some(Bug::EarlyAck) {
            let receipts: Vec<Receipt> = deliveries.iter().map(|delivery| delivery.receipt.clone()).collect();
            self.ack(&receipts).await?;
        }
        Ok(deliveries)
    }

    async fn ack(&self, receipts: &[Receipt]) -> Result<(), SubscriberError> {
        self.inner.ack(receipts).await?;
        for (run, receipt) in self.forget(receipts) {
            self.notes.write(Note::Acked { run, receipt });
        }
        Ok(())
    }

    async fn heartbeat(&self, receipts: &[Receipt]) -> Result<Vec<DeliveryLease>, SubscriberError> {
        self.inner.heartbeat(receipts).await
    }

    async fn release(&self, receipts: &[Receipt], delay: ReleaseDelay) -> Result<(), SubscriberError> {
        self.inner.release(receipts, delay).await?;
        self.forget(receipts);
        Ok(())
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
        self.inner.close().await
    }
}
