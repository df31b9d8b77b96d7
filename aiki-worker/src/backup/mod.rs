//! Claiming straight from the server while the transport is away.

mod origin;
mod revival;
mod route;
mod subscriber;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use aiki_core::{Subscriber, SubscriberError, SubscriberFactory, Subscription};
use aiki_runtime::{Entropy, SystemEntropy};
use async_trait::async_trait;
use tokio::time::Instant;

use crate::measure::Meter;
use revival::Revival;
pub(crate) use route::Route;
use subscriber::Backed;
use turns::Turns;

/// Subscribers with a backup: while the *primary* fails, runs are received through the *backup*; once the
/// primary answers again, through it alone. Nobody restarts anything.
///
/// A [worker](crate::Worker) makes one of its subscriber and a [`ClaimSubscriber`](crate::ClaimSubscriber) by
/// itself.
///
/// * The primary is asked again after its own `next_delay`, the backup after its own; the success of the
///   primary resets both.
/// * A primary that cannot be subscribed to is away as well: the subscription begins with the backup, and
///   the primary is tried again, later and later, up to every 5 s. Only one that is misconfigured from the
///   first makes [`subscribe`](SubscriberFactory::subscribe) fail.
/// * A delivery remembers where it came from: it is renewed, settled and handed back there.
/// * While the primary waits for a late answer nobody else is asked: it has to say that it fails.
#[derive(Clone, Debug)]
pub struct BackupSubscribers {
    primary: Arc<dyn SubscriberFactory>,
    backup: Arc<dyn SubscriberFactory>,
    entropy: Shown<dyn Entropy>,
    route: Arc<Route>,
}

/// A part that has nothing to show.
struct Shown<T: ?Sized>(Arc<T>);

impl<T: ?Sized> Clone for Shown<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: ?Sized> std::fmt::Debug for Shown<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("..")
    }
}

impl BackupSubscribers {
    /// Receives through `primary`, and through `backup` while that one fails.
    pub fn new(primary: impl SubscriberFactory, backup: impl SubscriberFactory) -> Self {
        Self {
            primary: Arc::new(primary),
            backup: Arc::new(backup),
            entropy: Shown(Arc::new(SystemEntropy)),
            route: Arc::default(),
        }
    }

    pub(crate) fn entropy(mut self, entropy: Arc<dyn Entropy>) -> Self {
        self.entropy = Shown(entropy);
        self
    }

    pub(crate) fn meter(mut self, meter: Meter) -> Self {
        self.route = Arc::new(Route::new(meter));
        self
    }

    pub(crate) fn route(&self) -> Arc<Route> {
        self.route.clone()
    }

    /// Whether the latest subscription receives through its backup at this moment.
    pub fn is_on_backup(&self) -> bool {
        self.route.is_on_backup()
    }

    /// How often the primary was given up for the backup so far.
    pub fn switches(&self) -> u64 {
        self.route.switches()
    }
}

#[async_trait]
impl SubscriberFactory for BackupSubscribers {
    /// Waits for the primary for 5 s at most; cancel-safe if the factories' own `subscribe` is.
    async fn subscribe(&self, subscription: Subscription) -> Result<Box<dyn Subscriber>, SubscriberError> {
        let worker = subscription.worker.clone();
        let backup = self.backup.subscribe(subscription.clone()).await?;
        let mut revival =
            Revival::begin(self.primary.clone(), subscription, self.entropy.0.clone(), self.route.clone());
        let mut turns = Turns::new(Instant::now());
        match revival.first().await {
            Ok(()) => {}
            Err(error @ SubscriberError::Misconfigured(_)) => return Err(error),
            Err(error) => {
                self.route.to_backup(worker.as_str(), &error);
                turns.primary_is_absent(error);
            }
        }
        Ok(Box::new(Backed::new(worker, revival, backup, turns, self.route.clone())))
    }

    /// As the primary says.
    fn claim_min_idle_time(&self) -> Option<Duration> {
        self.primary.claim_min_idle_time()
    }

    fn claims_from_server(&self) -> bool {
        self.primary.claims_from_server()
    }
}
