//! One subscription with a backup.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aiki_core::subscriber::{Delivery, DeliveryLease, Guarantees, Receipt, ReleaseDelay};
use aiki_core::{Name, Subscriber, SubscriberError};
use async_trait::async_trait;
use futures::future::{BoxFuture, join};
use tokio::time::Instant;

use super::origin::{Origin, Sorted, sort};
use super::revival::Revival;
use super::route::Route;
use super::turns::{Ask, Turns};
use crate::measure::Through;

type Received = Result<Vec<Delivery>, SubscriberError>;

/// A primary, or the attempts to get it, and its backup. Each call of `receive` asks one of them.
pub(super) struct Backed {
    worker: Name,
    revival: Revival,
    backup: Box<dyn Subscriber>,
    turns: Mutex<Turns>,
    route: Arc<Route>,
    closed: AtomicBool,
}

impl Backed {
    pub(super) fn new(
        worker: Name,
        revival: Revival,
        backup: Box<dyn Subscriber>,
        turns: Turns,
        route: Arc<Route>,
    ) -> Self {
        Self { worker, revival, backup, turns: Mutex::new(turns), route, closed: AtomicBool::new(false) }
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    fn primary_said(&self, primary: &dyn Subscriber, said: Received) -> Received {
        let now = Instant::now();
        if let Err(error) = &said {
            self.route.failed(Through::Subscriber, error);
        }
        match said {
            Ok(deliveries) => {
                let ago = primary.since_answer().unwrap_or_default();
                self.turns().primary_answered(now, now.checked_sub(ago).unwrap_or(now));
                self.route.to_primary(self.worker.as_str());
                Ok(Origin::Primary.mark_all(deliveries))
            }
            // Whoever subscribed has to do so again.
            Err(SubscriberError::Closed) => Err(SubscriberError::Closed),
            Err(error @ SubscriberError::Misconfigured(_)) if !self.turns().primary_is_trusted() => Err(error),
            Err(error) => {
                self.route.to_backup(self.worker.as_str(), &error);
                let mut turns = self.turns();
                let delay = primary.next_delay(turns.primary_failures().saturating_add(1));
                turns.primary_failed(now, delay, error);
                turns.verdict().map(|()| Vec::new())
            }
        }
    }

    fn backup_said(&self, said: Received) -> Received {
        let now = Instant::now();
        if let Err(error) = &said {
            self.route.failed(Through::Server, error);
        }
        let mut turns = self.turns();
        match said {
            Ok(deliveries) => {
                let delay = if deliveries.is_empty() { self.backup.next_delay(0) } else { Duration::ZERO };
                turns.backup_answered(now, delay);
                Ok(Origin::Backup.mark_all(deliveries))
            }
            Err(SubscriberError::Closed) => Err(SubscriberError::Closed),
            Err(error) => {
                let delay = self.backup.next_delay(turns.backup_failures().saturating_add(1));
                turns.backup_failed(now, delay, error);
                turns.verdict().map(|()| Vec::new())
            }
        }
    }

    /// Makes the same call to whom each part of the receipts belongs to.
    async fn each<'a, T>(
        &'a self,
        sorted: &'a Sorted,
        call: impl Fn(&'a dyn Subscriber, &'a [Receipt]) -> BoxFuture<'a, Result<T, SubscriberError>>,
    ) -> (Result<Option<T>, SubscriberError>, Result<Option<T>, SubscriberError>) {
        let ask = async |subscriber: Option<&'a dyn Subscriber>, receipts: &'a [Receipt]| match subscriber {
            Some(subscriber) if !receipts.is_empty() => call(subscriber, receipts).await.map(Some),
            _ => Ok(None),
        };
        join(ask(self.revival.primary(), &sorted.primary.1), ask(Some(&*self.backup), &sorted.backup.1)).await
    }
}

#[async_trait]
impl Subscriber for Backed {
    async fn receive(&self, limit: usize) -> Received {
        if self.is_closed() {
            return Err(SubscriberError::Closed);
        }
        let primary = self.revival.primary();
        let ask = self.turns().next(Instant::now(), primary.is_none());
        match (ask, primary) {
            (Ask::Primary, Some(primary)) => self.primary_said(primary, primary.receive(limit).await),
            (Ask::Backup, _) => self.backup_said(self.backup.receive(limit).await),
            (Ask::Nobody | Ask::Primary, _) => self.turns().verdict().map(|()| Vec::new()),
        }
    }

    async fn ack(&self, receipts: &[Receipt]) -> Result<(), SubscriberError> {
        let sorted = sort(receipts);
        let (primary, backup) = self.each(&sorted, |subscriber, receipts| subscriber.ack(receipts)).await;
        primary.and(backup).map(drop)
    }

    async fn heartbeat(&self, receipts: &[Receipt]) -> Result<Vec<DeliveryLease>, SubscriberError> {
        let sorted = sort(receipts);
        let (primary, backup) = self.each(&sorted, |subscriber, receipts| subscriber.heartbeat(receipts)).await;
        let mut leases = vec![DeliveryLease::Gone; receipts.len()];
        for (places, answers) in [(&sorted.primary.0, primary?), (&sorted.backup.0, backup?)] {
            for (place, answer) in places.iter().zip(answers.into_iter().flatten()) {
                leases[*place] = answer;
            }
        }
        Ok(leases)
    }

    async fn release(&self, receipts: &[Receipt], delay: ReleaseDelay) -> Result<(), SubscriberError> {
        let sorted = sort(receipts);
        let (primary, backup) = self.each(&sorted, |subscriber, receipts| subscriber.release(receipts, delay)).await;
        primary.and(backup).map(drop)
    }

    /// As the primary says while it is well; otherwise the time until it is somebody's turn.
    fn next_delay(&self, failures: u32) -> Duration {
        let primary = self.revival.primary();
        match (self.turns().rest(Instant::now(), primary.is_none()), primary) {
            (Some(rest), _) => rest,
            (None, Some(primary)) => primary.next_delay(failures),
            (None, None) => Duration::ZERO,
        }
    }

    /// The primary's; those of the backup while there is no primary.
    fn guarantees(&self) -> Guarantees {
        self.revival.primary().unwrap_or(&*self.backup).guarantees()
    }

    fn since_answer(&self) -> Option<Duration> {
        self.turns().answered().map(|answered| answered.elapsed())
    }

    async fn close(&self) -> Result<(), SubscriberError> {
        self.closed.store(true, Ordering::Relaxed);
        self.revival.give_up();
        let primary = async {
            match self.revival.primary() {
                Some(primary) => primary.close().await,
                None => Ok(()),
            }
        };
        let (primary, backup) = join(primary, self.backup.close()).await;
        primary.and(backup)
    }
}
