//! Subscribing to the primary, until it is there.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aiki_core::{Name, Subscriber, SubscriberError, SubscriberFactory, Subscription};
use aiki_runtime::Entropy;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::route::Route;
use crate::measure::Through;
use crate::{backoff, trace};

/// How long a subscription waits for its primary before it begins with the backup.
const PATIENCE: Duration = Duration::from_secs(5);

type Slot = Arc<OnceLock<Box<dyn Subscriber>>>;
type First = oneshot::Sender<Result<(), SubscriberError>>;

/// The primary, or the attempts to get it. They end with this value.
pub(super) struct Revival {
    slot: Slot,
    attempts: JoinHandle<()>,
    first: Option<oneshot::Receiver<Result<(), SubscriberError>>>,
}

impl Revival {
    /// Begins to subscribe, on the calling runtime.
    pub(super) fn begin(
        factory: Arc<dyn SubscriberFactory>,
        subscription: Subscription,
        entropy: Arc<dyn Entropy>,
        route: Arc<Route>,
    ) -> Self {
        let slot = Slot::default();
        let (tell, first) = oneshot::channel();
        let attempts = tokio::spawn(attempt(factory, subscription, entropy, route, slot.clone(), tell));
        Self { slot, attempts, first: Some(first) }
    }

    /// How the first attempt ended; waits for it, but not for long.
    pub(super) async fn first(&mut self) -> Result<(), SubscriberError> {
        let Some(first) = self.first.take() else { return Ok(()) };
        match timeout(PATIENCE, first).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(SubscriberError::Unavailable("the attempt to subscribe was cut short".into())),
            Err(_) => Err(SubscriberError::Unavailable(format!("no answer for {PATIENCE:?}"))),
        }
    }

    /// The primary, if it is there.
    pub(super) fn primary(&self) -> Option<&dyn Subscriber> {
        self.slot.get().map(|primary| &**primary)
    }

    /// Tries no more.
    pub(super) fn give_up(&self) {
        self.attempts.abort();
    }
}

impl Drop for Revival {
    fn drop(&mut self) {
        self.give_up();
    }
}

async fn attempt(
    factory: Arc<dyn SubscriberFactory>,
    subscription: Subscription,
    entropy: Arc<dyn Entropy>,
    route: Arc<Route>,
    slot: Slot,
    first: First,
) {
    let (mut first, mut failures) = (Some(first), 0_u32);
    let worker = subscription.worker.clone();
    loop {
        let mut subscription = subscription.clone();
        if failures > 0 {
            // No two subscriptions share a name, not even those that came to nothing.
            subscription.worker = Name::from(format!("{worker}.r{failures}"));
        }
        let error = match factory.subscribe(subscription).await {
            Ok(primary) => {
                // Nobody else writes it.
                let _ = slot.set(primary);
                first.take().map(|first| first.send(Ok(())));
                return;
            }
            Err(error) => error,
        };
        failures = failures.saturating_add(1);
        route.failed(Through::Subscriber, &error);
        match first.take() {
            // Nobody may be waiting any more.
            Some(first) => drop(first.send(Err(error))),
            None if matches!(error, SubscriberError::Misconfigured(_)) => {
                trace::primary_refused(worker.as_str(), &error);
            }
            None => {}
        }
        sleep(backoff::REVIVAL.delay(failures, entropy.next_u64())).await;
    }
}
