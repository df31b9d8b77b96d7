//! Redis Streams pass the suite that every subscriber must pass.
//!
//! Real time: leases are measured by Redis's own clock.
#![allow(clippy::expect_used, reason = "helpers of tests")]

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aiki_conformance::subscriber::Harness;
use aiki_core::{Name, Publisher, SubscriberFactory};
use aiki_subscriber_redis::{RedisPublisher, RedisStreams};
use async_trait::async_trait;
use integration_tests::redis::source::Source;

const LEASE: Duration = Duration::from_millis(1_500);

struct Streams {
    publisher: RedisPublisher,
    factory: RedisStreams,
    namespace: Name,
    /// Ends last.
    _source: Source,
}

impl Streams {
    async fn new() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let source = Source::find().await;
        let url: aiki_subscriber_redis::RedisUrl = source.url().parse().expect("a good URL");
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        Self {
            publisher: RedisPublisher::new(url.clone()),
            factory: RedisStreams::new(url).claim_min_idle_time(LEASE).block_time(Duration::from_millis(500)),
            namespace: Name::new(format!("conformance-{}-{number}", std::process::id())),
            _source: source,
        }
    }
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams").field("factory", &self.factory).finish_non_exhaustive()
    }
}

#[async_trait]
impl Harness for Streams {
    fn publisher(&self) -> &dyn Publisher {
        &self.publisher
    }

    fn factory(&self) -> &dyn SubscriberFactory {
        &self.factory
    }

    fn claim_min_idle_time(&self) -> Duration {
        LEASE
    }

    fn namespace(&self) -> Name {
        self.namespace.clone()
    }
}

aiki_conformance::subscriber_conformance!(
    #[tokio::test]
    Streams::new().await
);
