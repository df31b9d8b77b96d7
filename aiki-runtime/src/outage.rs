//! When to tell that something does not answer.

use std::time::{Duration, Instant};

/// An outage that lasts is told again after this time.
const REMIND: Duration = Duration::from_secs(30);
/// After an outage was told, the next one is told this much later at the earliest: something that answers every other
/// time does not fill the log.
const CALM: Duration = Duration::from_secs(5);

/// Counts an outage: told at its first failure, then every 30 s, and once more when it is over. It asks no clock.
///
/// ```
/// use std::time::{Duration, Instant};
/// use aiki_runtime::Outage;
///
/// let (mut outage, now) = (Outage::default(), Instant::now());
/// assert_eq!(outage.failed(now), Some(Duration::ZERO));
/// assert_eq!(outage.failed(now + Duration::from_secs(2)), None);
/// assert_eq!(outage.failed(now + Duration::from_secs(31)), Some(Duration::from_secs(31)));
/// assert_eq!(outage.answered(now + Duration::from_secs(40)), Some(Duration::from_secs(40)));
/// assert_eq!(outage.answered(now + Duration::from_secs(41)), None);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Outage {
    /// The first failure since the last answer.
    began: Option<Instant>,
    /// When an outage was last told, this one or an earlier one.
    told: Option<Instant>,
    /// Whether this one was told.
    known: bool,
}

impl Outage {
    /// There was no answer. For how long there has been none, when that is to be told now.
    pub fn failed(&mut self, now: Instant) -> Option<Duration> {
        let began = *self.began.get_or_insert(now);
        let pause = if self.known { REMIND } else { CALM };
        if self.told.is_some_and(|told| now.saturating_duration_since(told) < pause) {
            return None;
        }
        (self.told, self.known) = (Some(now), true);
        Some(now.saturating_duration_since(began))
    }

    /// There was an answer. How long there was none before, when that was told and is over now.
    pub fn answered(&mut self, now: Instant) -> Option<Duration> {
        let began = self.began.take()?;
        std::mem::take(&mut self.known).then(|| now.saturating_duration_since(began))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn something_that_answers_every_other_time_does_not_fill_the_log() {
        let (mut outage, start) = (Outage::default(), Instant::now());
        let mut told = 0;
        for at in 0..600 {
            let now = start + SECOND / 10 * at;
            told += usize::from(outage.failed(now).is_some());
            told += usize::from(outage.answered(now).is_some());
        }
        assert_eq!(told, 24, "once in five seconds, with its end, for a minute");
    }

    #[test]
    fn an_outage_soon_after_another_one_is_told_with_its_own_length() {
        let (mut outage, start) = (Outage::default(), Instant::now());
        assert!(outage.failed(start).is_some() && outage.answered(start + SECOND).is_some());
        assert_eq!(outage.failed(start + SECOND * 2), None);
        assert_eq!(outage.failed(start + SECOND * 6), Some(SECOND * 4));
        assert_eq!(outage.answered(start + SECOND * 7), Some(SECOND * 5));
    }
}
