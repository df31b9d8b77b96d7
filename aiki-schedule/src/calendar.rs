//! The occurrences of a spec.

use aiki_core::Timestamp;
use aiki_core::schedule::{Occurrences, ScheduleSpec, Timing};

use crate::cron::Cron;
use crate::error::SpecError;
use crate::interval::Interval;
use crate::zone;

/// A spec that was read and found to be possible. Reading takes some microseconds.
#[derive(Clone, Debug)]
pub struct Calendar(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Interval(Interval),
    Cron(Box<Cron>),
}

impl Calendar {
    /// Reads a spec.
    ///
    /// # Errors
    /// [`SpecError`] names the part that is wrong.
    pub fn new(spec: &ScheduleSpec) -> Result<Self, SpecError> {
        Ok(Self(match &spec.timing {
            Timing::Interval { every_ms } => Kind::Interval(Interval::new(*every_ms)?),
            Timing::Cron { expression, timezone } => {
                let zone = zone::find(timezone.as_deref())?;
                Kind::Cron(Box::new(Cron::new(expression, zone)?))
            }
        }))
    }
}

impl Occurrences for Calendar {
    fn next(&self, after: Timestamp) -> Option<Timestamp> {
        match &self.0 {
            Kind::Interval(interval) => interval.next(after),
            Kind::Cron(cron) => cron.next(after),
        }
    }

    fn latest(&self, after: Timestamp, until: Timestamp) -> Option<Timestamp> {
        match &self.0 {
            Kind::Interval(interval) => interval.latest(after, until),
            Kind::Cron(cron) => cron.latest(after, until),
        }
    }
}
