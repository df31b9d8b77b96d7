//! The time of an environment.

use aiki_core::{Clock, Timestamp};
use aiki_runtime::VirtualClock;

/// The runtime's virtual time, which nobody sets: whoever waits for a moment need not look in between.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EnvClock(pub(crate) VirtualClock);

impl Clock for EnvClock {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn keeps_timers(&self) -> bool {
        true
    }
}
