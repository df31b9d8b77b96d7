//! What a worker is configured with.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use aiki_core::{Subscriber, SubscriberError, SubscriberFactory, Subscription};
use async_trait::async_trait;

use crate::health::Health;
use crate::options::{self, RedisStreamsOptions};
use crate::subscriber::{RedisSubscriber, Watched};
use crate::timing::Timing;
use crate::url::RedisUrl;

/// Subscriptions over Redis Streams. Clones share the list of live subscriptions.
///
/// ```no_run
/// use std::time::Duration;
/// use aiki_subscriber_redis::{RedisStreams, RedisUrl};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let url: RedisUrl = "redis://localhost:6379".parse()?;
/// let subscribers = RedisStreams::new(url).claim_min_idle_time(Duration::from_secs(30));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RedisStreams {
    url: RedisUrl,
    timing: Timing,
    live: Arc<Mutex<Vec<Weak<Watched>>>>,
}

impl RedisStreams {
    /// Subscriptions to this Redis, with the default options. Connects nowhere yet.
    pub fn new(url: RedisUrl) -> Self {
        Self::with(url, RedisStreamsOptions::default())
    }

    /// Subscriptions with these options. They are checked when a subscription begins.
    pub fn with(url: RedisUrl, options: RedisStreamsOptions) -> Self {
        let timing = Timing {
            lease: Duration::from_millis(options.claim_min_idle_time_ms),
            block: Duration::from_millis(options.block_time_ms),
        };
        Self { url, timing, live: Arc::default() }
    }

    /// A delivery that its worker neither settles nor renews for this long may be taken over by another one.
    /// 60 s by default, from 0.5 s to a day. All workers of a stream should agree on it.
    pub fn claim_min_idle_time(mut self, time: Duration) -> Self {
        self.timing.lease = time;
        self
    }

    /// How long a read waits for new entries. 1 s by default, from 10 ms to a minute.
    pub fn block_time(mut self, time: Duration) -> Self {
        self.timing.block = time;
        self
    }

    /// How the live subscriptions are doing.
    pub fn health(&self) -> Vec<Health> {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.retain(|watched| watched.strong_count() > 0);
        live.iter().filter_map(Weak::upgrade).map(|watched| watched.health()).collect()
    }
}

#[async_trait]
impl SubscriberFactory for RedisStreams {
    /// Connects, makes the streams and tries every command that will be needed.
    async fn subscribe(&self, subscription: Subscription) -> Result<Box<dyn Subscriber>, SubscriberError> {
        options::check(self.timing.lease, self.timing.block)
            .map_err(|error| SubscriberError::Misconfigured(error.to_string()))?;
        if subscription.workflows.is_empty() {
            return Err(SubscriberError::Misconfigured("no workflow to subscribe to".into()));
        }
        let subscriber = RedisSubscriber::begin(&self.url, self.timing, subscription).await?;
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.retain(|watched| watched.strong_count() > 0);
        live.push(subscriber.watched());
        drop(live);
        Ok(Box::new(subscriber))
    }

    fn claim_min_idle_time(&self) -> Option<Duration> {
        Some(self.timing.lease)
    }
}
