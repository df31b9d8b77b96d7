//! What a backend tells the suite about itself.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aiki_core::{Name, Publisher, Subscriber, SubscriberFactory};
use async_trait::async_trait;

/// A backend under test. Every case gets a new one, over an empty queue or at least with a
/// [`namespace`](Self::namespace) of its own.
///
/// Most backends need no implementation of their own: [`PlainHarness`] takes a publisher and a factory.
#[async_trait]
pub trait Harness: Send + Sync {
    /// Where the case announces runs.
    fn publisher(&self) -> &dyn Publisher;

    /// Where the case gets its subscriptions.
    fn factory(&self) -> &dyn SubscriberFactory;

    /// The time after which an abandoned delivery goes to somebody else. In virtual time any value
    /// will do; in real time the whole suite takes about thirty of them.
    fn claim_min_idle_time(&self) -> Duration;

    /// How late the backend may notice that something has become available again: a lapsed lease, a
    /// release, a hand-back. Half of [`claim_min_idle_time`](Self::claim_min_idle_time) unless said otherwise; never more than that.
    fn slack(&self) -> Duration {
        self.claim_min_idle_time() / 2
    }

    /// The longest that a `receive` may take that finds nothing. 2 s unless said otherwise.
    fn longest_receive(&self) -> Duration {
        Duration::from_secs(2)
    }

    /// After so many deliveries of one priority in a row, one of a lower priority has its turn. 16
    /// unless said otherwise.
    fn starvation_bound(&self) -> usize {
        16
    }

    /// The tenant whose runs are used. The case also announces to a namespace that begins with this
    /// one's name.
    fn namespace(&self) -> Name {
        Name::new("conformance")
    }

    /// Lets time pass for the backend. Sleeps by tokio's clock, which is right for both virtual and
    /// real time, unless said otherwise.
    async fn pass_time(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    /// Kills a subscriber without warning. Drops it unless said otherwise.
    async fn crash(&self, subscriber: Box<dyn Subscriber>) {
        drop(subscriber);
    }
}

/// The harness of a backend that needs nothing special: time is tokio's, and a dropped subscriber is a
/// dead one.
#[derive(Clone)]
pub struct PlainHarness {
    publisher: Arc<dyn Publisher>,
    factory: Arc<dyn SubscriberFactory>,
}

impl PlainHarness {
    /// Tests these two together.
    pub fn new(publisher: impl Publisher, factory: impl SubscriberFactory) -> Self {
        Self { publisher: Arc::new(publisher), factory: Arc::new(factory) }
    }
}

impl fmt::Debug for PlainHarness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlainHarness").field("factory", &self.factory).finish_non_exhaustive()
    }
}

#[async_trait]
impl Harness for PlainHarness {
    fn publisher(&self) -> &dyn Publisher {
        &*self.publisher
    }

    fn factory(&self) -> &dyn SubscriberFactory {
        &*self.factory
    }

    /// As the factory says; 60 s when it says nothing.
    fn claim_min_idle_time(&self) -> Duration {
        self.factory.claim_min_idle_time().unwrap_or(Duration::from_secs(60))
    }
}
