//! A queue that is wrong in one way.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aiki_conformance::subscriber::{CaseFailure, CaseResult, PlainHarness};
use aiki_core::subscriber::{DeliveryLease, Guarantees, Receipt, ReleaseDelay};
use aiki_core::{Delivery, PublishReport, Publisher, ReadyRun, RunId};
use aiki_core::{Subscriber, SubscriberError, SubscriberFactory, Subscription};
use aiki_subscriber_memory::MemoryQueue;
use async_trait::async_trait;

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// `receive` acknowledges what it delivers.
    AcksOnReceive,
    /// `receive` takes, then waits, then returns.
    LosesWhatADroppedReceiveTook,
    /// `heartbeat` does not look who holds the delivery.
    RenewsWithoutOwnerCheck,
    /// `heartbeat` answers without renewing.
    NeverRenews,
    /// `ack` does nothing.
    NeverAcks,
    /// `release` forgets the delay.
    ForgetsTheDelay,
    /// `release` does nothing.
    NeverReleases,
    /// `close` keeps what is held.
    ClosesWithoutHandingBack,
    /// `close` does nothing.
    NeverCloses,
    /// `receive` delivers one more than asked for.
    ExceedsTheLimit,
    /// `receive` fails when there is nothing.
    FailsWhenEmpty,
    /// `receive` waits until there is something.
    WaitsForever,
    /// `receive` delivers each run twice.
    DeliversTwice,
    /// A subscriber gets everything whatever its version.
    IgnoresTheVersion,
    /// Announcements lose their priority.
    IgnoresThePriority,
    /// The second announcement of a run is thrown away.
    AnnouncesOnlyOnce,
}

/// The queue with the flaw, ready for a case.
pub(crate) fn harness(flaw: Flaw) -> PlainHarness {
    let queue = Flawed { flaw, queue: MemoryQueue::new(), announced: Arc::default() };
    PlainHarness::new(queue.clone(), queue)
}

/// The name of the case that failed, or why none did.
pub(crate) fn failed_case(result: CaseResult) -> Result<&'static str, &'static str> {
    match result {
        Err(CaseFailure { case, .. }) => Ok(case),
        Ok(()) => Err("the case found nothing"),
    }
}

#[derive(Clone, Debug)]
struct Flawed {
    flaw: Flaw,
    queue: MemoryQueue,
    announced: Arc<Mutex<HashSet<RunId>>>,
}

#[async_trait]
impl Publisher for Flawed {
    async fn publish(&self, runs: &[ReadyRun]) -> PublishReport {
        let mut runs = runs.to_vec();
        match self.flaw {
            Flaw::IgnoresThePriority => runs.iter_mut().for_each(|run| run.priority = Default::default()),
            Flaw::IgnoresTheVersion => runs.iter_mut().for_each(|run| run.workflow.version = "1.0.0".into()),
            Flaw::AnnouncesOnlyOnce => {
                let mut announced = self.announced.lock().unwrap_or_else(PoisonError::into_inner);
                runs.retain(|run| announced.insert(run.id));
            }
            _ => {}
        }
        self.queue.publish(&runs).await
    }
}

#[async_trait]
impl SubscriberFactory for Flawed {
    async fn subscribe(&self, subscription: Subscription) -> Result<Box<dyn Subscriber>, SubscriberError> {
        Ok(Box::new(FlawedSubscriber { flaw: self.flaw, inner: self.queue.subscribe(subscription).await? }))
    }

    fn claim_min_idle_time(&self) -> Option<Duration> {
        self.queue.claim_min_idle_time()
    }
}

struct FlawedSubscriber {
    flaw: Flaw,
    inner: Box<dyn Subscriber>,
}

#[async_trait]
impl Subscriber for FlawedSubscriber {
    async fn receive(&self, limit: usize) -> Result<Vec<Delivery>, SubscriberError> {
        let limit = if self.flaw == Flaw::ExceedsTheLimit { limit + 1 } else { limit };
        let mut taken = self.inner.receive(limit).await?;
        match self.flaw {
            Flaw::AcksOnReceive => {
                let receipts: Vec<_> = taken.iter().map(|delivery| delivery.receipt.clone()).collect();
                self.inner.ack(&receipts).await?;
            }
            Flaw::LosesWhatADroppedReceiveTook => tokio::time::sleep(Duration::from_millis(1)).await,
            Flaw::FailsWhenEmpty if taken.is_empty() => {
                return Err(SubscriberError::Misconfigured("there is nothing".into()));
            }
            Flaw::WaitsForever => {
                while taken.is_empty() {
                    taken = self.inner.receive(limit).await?;
                }
            }
            Flaw::DeliversTwice => {
                let again = taken.clone();
                taken.extend(again);
                taken.truncate(limit);
            }
            _ => {}
        }
        Ok(taken)
    }

    async fn ack(&self, receipts: &[Receipt]) -> Result<(), SubscriberError> {
        if self.flaw == Flaw::NeverAcks { Ok(()) } else { self.inner.ack(receipts).await }
    }

    async fn heartbeat(&self, receipts: &[Receipt]) -> Result<Vec<DeliveryLease>, SubscriberError> {
        match self.flaw {
            Flaw::NeverRenews => Ok(vec![DeliveryLease::Mine; receipts.len()]),
            Flaw::RenewsWithoutOwnerCheck => {
                let mut leases = self.inner.heartbeat(receipts).await?;
                leases.iter_mut().filter(|lease| **lease == DeliveryLease::Others).for_each(|lease| {
                    *lease = DeliveryLease::Mine;
                });
                Ok(leases)
            }
            _ => self.inner.heartbeat(receipts).await,
        }
    }

    async fn release(&self, receipts: &[Receipt], delay: ReleaseDelay) -> Result<(), SubscriberError> {
        match self.flaw {
            Flaw::ForgetsTheDelay => self.inner.release(receipts, ReleaseDelay::None).await,
            Flaw::NeverReleases => Ok(()),
            _ => self.inner.release(receipts, delay).await,
        }
    }

    fn next_delay(&self, failures: u32) -> Duration {
        self.inner.next_delay(failures)
    }

    fn guarantees(&self) -> Guarantees {
        self.inner.guarantees()
    }

    async fn close(&self) -> Result<(), SubscriberError> {
        match self.flaw {
            Flaw::NeverCloses | Flaw::ClosesWithoutHandingBack => Ok(()),
            _ => self.inner.close().await,
        }
    }
}
