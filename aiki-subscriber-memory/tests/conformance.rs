//! The queue passes the suite: plain, counted, and disturbed.

use aiki_subscriber_memory::MemoryQueue;

mod plain {
    use aiki_conformance::subscriber::PlainHarness;

    fn harness() -> PlainHarness {
        let queue = super::MemoryQueue::new();
        PlainHarness::new(queue.clone(), queue)
    }

    aiki_conformance::subscriber_conformance!(harness());
}

mod instrumented {
    use aiki_conformance::subscriber::{InstrumentedSubscribers, PlainHarness};

    fn harness() -> PlainHarness {
        let queue = super::MemoryQueue::new();
        PlainHarness::new(queue.clone(), InstrumentedSubscribers::new(queue))
    }

    aiki_conformance::subscriber_conformance!(harness());
}

mod short_lease {
    use std::time::Duration;

    use aiki_conformance::subscriber::PlainHarness;
    use aiki_subscriber_memory::{MemoryQueue, MemoryQueueConfig};

    /// The lease is shorter than a waiting `receive`, which must still notice every lapse.
    fn harness() -> PlainHarness {
        let queue = MemoryQueue::with(MemoryQueueConfig {
            claim_min_idle_time: Duration::from_millis(400),
            block_time: Duration::from_millis(1500),
            ..MemoryQueueConfig::default()
        });
        PlainHarness::new(queue.clone(), queue)
    }

    aiki_conformance::subscriber_conformance!(harness());
}

macro_rules! disturbed {
    ($($module:ident: $seed:literal,)*) => {$(
        mod $module {
            use aiki_conformance::subscriber::{Faults, FaultySubscribers, PlainHarness};

            fn harness() -> PlainHarness {
                let queue = super::MemoryQueue::new();
                PlainHarness::new(queue.clone(), FaultySubscribers::new(queue, Faults::seeded($seed)))
            }

            aiki_conformance::subscriber_conformance_under_faults!(harness());
        }
    )*};
}

disturbed! {
    disturbed_1: 1,
    disturbed_2: 2,
    disturbed_3: 3,
    disturbed_4: 4,
}
