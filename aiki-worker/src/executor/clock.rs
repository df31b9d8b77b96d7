//! The time of one pass.

use std::sync::{Arc, OnceLock};

use aiki_core::{Clock, Timestamp};

/// A clock that stands still once its pass is cut short: no step becomes due any more, so no attempt
/// begins while bodies clean up.
pub(super) struct PassClock {
    clock: Arc<dyn Clock>,
    stopped: OnceLock<Timestamp>,
}

impl PassClock {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, stopped: OnceLock::new() }
    }

    pub(super) fn stop(&self) {
        self.stopped.get_or_init(|| self.clock.now());
    }
}

impl Clock for PassClock {
    fn now(&self) -> Timestamp {
        self.stopped.get().copied().unwrap_or_else(|| self.clock.now())
    }
}
