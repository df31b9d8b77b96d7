//! Schedules of a fixed interval, counted from their anchor.

use aiki_core::Timestamp;

use crate::error::SpecError;

/// The longest interval: a hundred years of 365 days.
pub(crate) const MAX_EVERY_MS: u64 = 100 * 365 * 24 * 3_600_000;

#[derive(Clone, Debug)]
pub(crate) struct Interval {
    every_ms: u64,
}

impl Interval {
    pub(crate) fn new(every_ms: u64) -> Result<Self, SpecError> {
        match every_ms {
            1..=MAX_EVERY_MS => Ok(Self { every_ms }),
            _ => Err(SpecError::Interval(every_ms)),
        }
    }

    pub(crate) fn next(&self, anchor: Timestamp) -> Option<Timestamp> {
        anchor.as_millis().checked_add(self.every_ms).map(Timestamp::from_millis)
    }

    pub(crate) fn latest(&self, anchor: Timestamp, until: Timestamp) -> Option<Timestamp> {
        let passed = until.as_millis().checked_sub(anchor.as_millis())? / self.every_ms;
        (passed > 0).then(|| Timestamp::from_millis(anchor.as_millis() + passed * self.every_ms))
    }
}
