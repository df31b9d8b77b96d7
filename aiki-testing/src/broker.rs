//! The queue between server and workers, and what goes wrong with it.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aiki_core::subscriber::{Delivery, DeliveryLease, Guarantees, Receipt, ReleaseDelay};
use aiki_core::{PublishReport, Publisher, ReadyRun, Subscriber, SubscriberError, SubscriberFactory, Subscription};
use aiki_subscriber_memory::{MemoryQueue, MemoryQueueConfig};
use async_trait::async_trait;
use tokio::sync::watch;

use crate::faults::Trouble;

/// How long a claim lasts without a heartbeat. Every heartbeat is a moment at which virtual time stops, and no
/// environment waits for a lease to lapse: it takes back what a worker held that died.
pub(crate) const LEASE: Duration = Duration::from_secs(12 * 3_600);
/// A delivery that comes twice comes again after this time.
const AGAIN: Duration = Duration::from_millis(20);

/// A memory queue that sets no timers of its own while nothing is on its way. Clones are one broker.
#[derive(Clone)]
pub(crate) struct Broker {
    queue: Arc<Mutex<MemoryQueue>>,
    trouble: Arc<Mutex<Option<Trouble>>>,
    restarts: watch::Sender<u64>,
}

/// Everybody who stops settles what was received, so nothing has to lapse.
fn queue() -> MemoryQueue {
    let config = MemoryQueueConfig::default();
    MemoryQueue::with(MemoryQueueConfig { claim_min_idle_time: Duration::MAX, block_time: Duration::MAX, ..config })
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Broker {
    pub(crate) fn new() -> Self {
        Self { queue: Arc::new(Mutex::new(queue())), trouble: Arc::default(), restarts: watch::Sender::new(0) }
    }

    pub(crate) fn set_trouble(&self, trouble: Option<Trouble>) {
        *locked(&self.trouble) = trouble;
    }

    pub(crate) fn trouble(&self) -> Option<Trouble> {
        locked(&self.trouble).clone()
    }

    fn current(&self) -> MemoryQueue {
        locked(&self.queue).clone()
    }

    /// Forgets everything; all subscriptions are over.
    pub(crate) fn restart(&self) {
        *locked(&self.queue) = queue();
        self.restarts.send_modify(|restarts| *restarts += 1);
    }

    async fn announce(&self, run: ReadyRun) {
        self.current().publish(&[run]).await;
    }

    fn announce_in(&self, delay: Duration, run: ReadyRun) {
        let broker = self.clone();
        drop(tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            broker.announce(run).await;
        }));
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Broker").field(&self.current()).finish()
    }
}

#[async_trait]
impl Publisher for Broker {
    async fn publish(&self, runs: &[ReadyRun]) -> PublishReport {
        let Some(trouble) = self.trouble() else { return self.current().publish(runs).await };
        for run in runs {
            if trouble.loses() {
                continue;
            }
            if trouble.duplicates() {
                self.announce_in(AGAIN, run.clone());
            }
            match trouble.late() {
                Some(delay) => self.announce_in(delay, run.clone()),
                None => self.announce(run.clone()).await,
            }
        }
        PublishReport::default()
    }
}

#[async_trait]
impl SubscriberFactory for Broker {
    async fn subscribe(&self, subscription: Subscription) -> Result<Box<dyn Subscriber>, SubscriberError> {
        let mut restarts = self.restarts.subscribe();
        restarts.mark_unchanged();
        let inner = self.current().subscribe(subscription).await?;
        Ok(Box::new(Session { inner, broker: self.clone(), restarts }))
    }

    fn claim_min_idle_time(&self) -> Option<Duration> {
        Some(LEASE)
    }
}

struct Session {
    inner: Box<dyn Subscriber>,
    broker: Broker,
    restarts: watch::Receiver<u64>,
}

impl Session {
    fn check(&self) -> Result<(), SubscriberError> {
        if self.restarts.has_changed().unwrap_or(true) { Err(SubscriberError::Closed) } else { Ok(()) }
    }
}

#[async_trait]
impl Subscriber for Session {
    async fn receive(&self, limit: usize) -> Result<Vec<Delivery>, SubscriberError> {
        self.check()?;
        let trouble = self.broker.trouble();
        if trouble.as_ref().is_some_and(Trouble::restarts_broker) {
            self.broker.restart();
            return Err(SubscriberError::Unavailable("the broker restarted".into()));
        }
        let mut restarts = self.restarts.clone();
        let mut deliveries = tokio::select! {
            biased;
            _ = restarts.changed() => return Err(SubscriberError::Closed),
            received = self.inner.receive(limit) => received?,
        };
        if let Some(trouble) = trouble {
            let twice: Vec<_> = deliveries.iter().filter(|_| trouble.duplicates()).cloned().collect();
            deliveries.extend(twice.into_iter().take(limit.saturating_sub(deliveries.len())));
        }
        Ok(deliveries)
    }

    async fn ack(&self, receipts: &[Receipt]) -> Result<(), SubscriberError> {
        self.check()?;
        self.inner.ack(receipts).await
    }

    async fn heartbeat(&self, receipts: &[Receipt]) -> Result<Vec<DeliveryLease>, SubscriberError> {
        self.check()?;
        self.inner.heartbeat(receipts).await
    }

    async fn release(&self, receipts: &[Receipt], delay: ReleaseDelay) -> Result<(), SubscriberError> {
        self.check()?;
        self.inner.release(receipts, delay).await
    }

    fn next_delay(&self, failures: u32) -> Duration {
        self.inner.next_delay(failures)
    }

    fn guarantees(&self) -> Guarantees {
        self.inner.guarantees()
    }

    async fn close(&self) -> Result<(), SubscriberError> {
        self.inner.close().await
    }
}
