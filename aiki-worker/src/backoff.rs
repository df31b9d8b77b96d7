//! Waiting longer after every failure.

use std::time::Duration;

/// Doubles from `first` to `cap`, and each delay is up to twice as long by chance, so that workers
/// that failed together do not come back together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    pub(crate) first: Duration,
    pub(crate) cap: Duration,
}

/// For asking the server or the transport again.
pub(crate) const INTAKE: Backoff = Backoff { first: Duration::from_secs(1), cap: Duration::from_secs(30) };
/// For subscribing to a transport that is away, while runs are received in another way.
pub(crate) const REVIVAL: Backoff = Backoff { first: Duration::from_millis(250), cap: Duration::from_secs(5) };
/// For sending a report again: a run waits for it.
pub(crate) const REPORT: Backoff = Backoff { first: Duration::from_millis(100), cap: Duration::from_secs(5) };

impl Backoff {
    /// The delay after `failures` failures in a row, from 1, with 64 bits of chance.
    pub(crate) fn delay(self, failures: u32, chance: u64) -> Duration {
        let full = self.first.saturating_mul(1 << failures.clamp(1, 16)).min(self.cap);
        let part = (chance >> 11) as f64 / (1u64 << 53) as f64;
        // Whole milliseconds: no timer needs more, and simulated ones come out the same.
        full / 2 + Duration::from_millis((full.as_millis() as f64 * part / 2.0) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_between_their_limits() {
        let backoff = INTAKE;
        for failures in [1, 2, 5, 50, u32::MAX] {
            for chance in [0, u64::MAX / 2, u64::MAX] {
                let delay = backoff.delay(failures, chance);
                assert!((backoff.first..=backoff.cap).contains(&delay), "{failures} {chance} {delay:?}");
            }
        }
        assert!(backoff.delay(4, 0) > backoff.delay(1, u64::MAX));
        assert_ne!(backoff.delay(9, 0), backoff.delay(9, u64::MAX));
    }
}
