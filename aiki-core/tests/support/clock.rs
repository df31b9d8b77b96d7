//! A clock that stands still until it is set.

use std::sync::atomic::{AtomicU64, Ordering};

use aiki_core::{Clock, Timestamp};

#[derive(Debug)]
pub(crate) struct ManualClock(AtomicU64);

impl ManualClock {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(1_000_000))
    }

    /// Moves the clock forward to `at`; never back.
    pub(crate) fn advance_to(&self, at: Timestamp) {
        self.0.fetch_max(at.as_millis(), Ordering::SeqCst);
    }

    /// Sets the clock, also back: another machine's clock may differ.
    pub(crate) fn set(&self, at: Timestamp) {
        self.0.store(at.as_millis(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}
