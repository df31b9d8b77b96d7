//! All times, worked out of the two that are configured.

use std::time::Duration;

/// The longest pause between attempts to connect.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How long things take and may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timing {
    /// C: an entry that was not renewed for this long may be taken over.
    pub(crate) lease: Duration,
    /// B: how long a read waits.
    pub(crate) block: Duration,
}

impl Timing {
    /// S: the time between two looks for abandoned entries, before jitter.
    pub(crate) fn sweep(&self) -> Duration {
        self.lease / 4
    }

    /// A command that takes longer than this says that Redis stood still: the idle times of all entries have
    /// grown, and mean nothing until their owners have renewed them.
    pub(crate) fn suspicious(&self) -> Duration {
        self.lease / 4
    }

    /// How long owners have to renew before anybody may take over again: one heartbeat.
    pub(crate) fn grace(&self) -> Duration {
        self.lease / 3
    }

    /// How long a command that does not wait may take before its connection counts as dead.
    pub(crate) fn command(&self) -> Duration {
        (self.lease / 4).clamp(Duration::from_secs(1), Duration::from_secs(5))
    }

    /// How long a waiting read may take before its connection counts as dead. Old versions of Redis may
    /// start the waiting time again once.
    pub(crate) fn read_deadline(&self) -> Duration {
        self.block * 2 + Duration::from_secs(2)
    }

    /// The pause after so many failures in a row, before jitter. Everybody must be back within the grace.
    pub(crate) fn pause(&self, failures: u32) -> Duration {
        let longest = (self.lease / 8).clamp(Duration::from_millis(100), LONGEST_PAUSE);
        Duration::from_millis(50).saturating_mul(1 << failures.min(10)).min(longest)
    }

    /// How long a delivery may wait for a `receive` that takes it.
    pub(crate) fn buffered(&self) -> Duration {
        self.block.min(self.lease / 4)
    }

    pub(crate) fn lease_ms(&self) -> u64 {
        u64::try_from(self.lease.as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_reconnects_last_is_still_back_within_the_grace_of_the_first() {
        for lease in [500, 1_000, 2_000, 10_000, 60_000, 86_400_000] {
            let timing = Timing { lease: Duration::from_millis(lease), block: Duration::from_secs(1) };
            assert!(timing.pause(u32::MAX) <= LONGEST_PAUSE);
            assert!(timing.pause(u32::MAX) < timing.grace(), "{lease}");
            assert!(timing.pause(0) <= timing.pause(1));
        }
    }

    #[test]
    fn the_default_profile_is_as_documented() {
        let timing = Timing { lease: Duration::from_secs(60), block: Duration::from_secs(1) };
        assert_eq!(timing.sweep(), Duration::from_secs(15));
        assert_eq!(timing.grace(), Duration::from_secs(20));
        assert_eq!(timing.command(), Duration::from_secs(5));
        assert_eq!(timing.read_deadline(), Duration::from_secs(4));
        assert_eq!(timing.pause(30), Duration::from_secs(5));
    }
}
