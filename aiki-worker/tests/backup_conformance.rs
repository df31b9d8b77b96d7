//! A subscriber with a backup passes the suite: through its primary, through its backup, and through a
//! primary that fails now and then.

use std::time::Duration;

use aiki_conformance::subscriber::{Faults, FaultySubscribers, PlainHarness};
use aiki_core::{Subscriber, SubscriberError, SubscriberFactory, Subscription};
use aiki_subscriber_memory::MemoryQueue;
use aiki_worker::BackupSubscribers;
use async_trait::async_trait;

/// A transport that is never there.
#[derive(Debug)]
struct Away;

#[async_trait]
impl SubscriberFactory for Away {
    async fn subscribe(&self, _: Subscription) -> Result<Box<dyn Subscriber>, SubscriberError> {
        Err(SubscriberError::Unavailable("never there".into()))
    }

    fn claim_min_idle_time(&self) -> Option<Duration> {
        None
    }
}

mod through_the_primary {
    use super::{BackupSubscribers, MemoryQueue, PlainHarness};

    fn harness() -> PlainHarness {
        let queue = MemoryQueue::new();
        PlainHarness::new(queue.clone(), BackupSubscribers::new(queue, MemoryQueue::new()))
    }

    aiki_conformance::subscriber_conformance!(harness());
}

mod through_the_backup {
    use super::{Away, BackupSubscribers, MemoryQueue, PlainHarness};

    fn harness() -> PlainHarness {
        let queue = MemoryQueue::new();
        PlainHarness::new(queue.clone(), BackupSubscribers::new(Away, queue))
    }

    aiki_conformance::subscriber_conformance!(harness());
}

macro_rules! flickering {
    ($($module:ident: $seed:literal,)*) => {$(
        mod $module {
            use super::{BackupSubscribers, Faults, FaultySubscribers, MemoryQueue, PlainHarness};

            fn harness() -> PlainHarness {
                let queue = MemoryQueue::new();
                let primary = FaultySubscribers::new(queue.clone(), Faults::seeded($seed));
                PlainHarness::new(queue, BackupSubscribers::new(primary, MemoryQueue::new()))
            }

            aiki_conformance::subscriber_conformance_under_faults!(harness());
        }
    )*};
}

flickering! {
    through_a_flickering_primary_1: 1,
    through_a_flickering_primary_2: 2,
    through_a_flickering_primary_3: 3,
}
