//! Clocks.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aiki_core::{Clock, Timestamp};
use tokio::time::Instant;

/// The operating system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Timestamp::from_millis(since_epoch.as_millis() as u64)
    }
}

/// A clock that follows tokio's time, so that `tokio::time::pause` makes it virtual: it stands still
/// while anything runs and jumps ahead when everything waits.
#[derive(Clone, Copy, Debug)]
pub struct VirtualClock {
    start: Instant,
    at_start: Timestamp,
}

impl VirtualClock {
    /// A clock that reads `at_start` now.
    pub fn starting_at(at_start: Timestamp) -> Self {
        Self { start: Instant::now(), at_start }
    }
}

impl Default for VirtualClock {
    /// Starts on 1 March 2026, 00:00 UTC.
    fn default() -> Self {
        Self::starting_at(Timestamp::from_millis(1_772_323_200_000))
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        // Rounded down, as the system's clock is.
        Timestamp::from_millis(self.at_start.as_millis() + self.start.elapsed().as_millis() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_virtual_clock_follows_paused_time() {
        let clock = VirtualClock::default();
        let before = clock.now();
        tokio::time::sleep(Duration::from_secs(86_400)).await;
        assert_eq!(clock.now().since(before), Duration::from_secs(86_400));
    }
}
