//! Ranks: the order in which waiting runs are delivered, and the pauses between attempts to announce them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// What each step of priority is worth in waiting time, in milliseconds. It is also the bound of
/// starvation: a run is overtaken only by runs that became ready at most so much later for each step
/// that they are above it.
pub const HEAD_START_MS: u64 = 60_000;

/// The digit of a rank without a priority of its own, the last of all.
const PLAIN_DIGIT: u8 = 9;

/// The last due time whose ranks fit into a `u64`.
const MAX_DUE_AT_MS: u64 = (u64::MAX - PLAIN_DIGIT as u64) / 10;

/// Which of several runs that are due at the same millisecond comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Before the others.
    High,
    /// Between the two.
    #[default]
    Normal,
    /// After the others; also the place of runs whose priority is unknown.
    Low,
}

impl Priority {
    /// The last digit of a rank: 0, 4 or 9. The smaller goes first.
    pub const fn digit(self) -> u8 {
        match self {
            Self::High => 0,
            Self::Normal => 4,
            Self::Low => PLAIN_DIGIT,
        }
    }
}

/// The place of a run in the delivery order: due time in milliseconds since the Unix epoch, times ten, plus a
/// priority digit from 0, the first, to 9, the last. The lower rank is delivered first.
///
/// Ranks of today's times fit exactly into a double, so they may serve as a score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rank(u64);

impl Rank {
    /// The place of a run among the ready ones: a higher priority counts as having waited
    /// [`HEAD_START_MS`] longer for each step, so that urgent runs go first and the others are
    /// served in the end, however many urgent ones there are.
    pub const fn of_ready(since: Timestamp, priority: Priority) -> Self {
        let handicap = match priority {
            Priority::High => 0,
            Priority::Normal => HEAD_START_MS,
            Priority::Low => 2 * HEAD_START_MS,
        };
        Self::new(since.as_millis().saturating_add(handicap), priority)
    }

    /// The rank of a run that is due at `due_at_ms`, milliseconds since the Unix epoch.
    pub const fn new(due_at_ms: u64, priority: Priority) -> Self {
        Self::with_digit(due_at_ms, priority.digit())
    }

    /// The rank with digit 9, as peers without priorities give it. It is also the highest rank of its millisecond:
    /// everything up to `Rank::plain(now)` is due.
    pub const fn plain(due_at_ms: u64) -> Self {
        Self::with_digit(due_at_ms, PLAIN_DIGIT)
    }

    /// The rank with any digit; one above 9 counts as 9, and a due time that does not fit as the last that does.
    pub const fn with_digit(due_at_ms: u64, digit: u8) -> Self {
        let due_at_ms = if due_at_ms > MAX_DUE_AT_MS { MAX_DUE_AT_MS } else { due_at_ms };
        let digit = if digit > PLAIN_DIGIT { PLAIN_DIGIT } else { digit };
        Self(due_at_ms * 10 + digit as u64)
    }

    /// The same priority digit at another time, milliseconds since the Unix epoch.
    #[must_use]
    pub const fn moved_to(self, due_at_ms: u64) -> Self {
        Self::with_digit(due_at_ms, self.digit())
    }

    /// A rank that was stored as a number.
    pub const fn from_u64(rank: u64) -> Self {
        Self(rank)
    }

    /// The rank as a number.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// When the run is due, milliseconds since the Unix epoch.
    pub const fn due_at_ms(self) -> u64 {
        self.0 / 10
    }

    /// The priority digit, 0 to 9.
    pub const fn digit(self) -> u8 {
        (self.0 % 10) as u8
    }
}

/// How long to wait before a run that is still not taken is announced again: as long as it has waited since the first
/// attempt, at least 5 s and at most 300 s. The waiting time thereby doubles.
pub fn republish_backoff(age: Duration) -> Duration {
    age.clamp(Duration::from_secs(5), Duration::from_secs(300))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_before_priority() {
        assert!(Rank::new(1000, Priority::High) < Rank::new(1000, Priority::Normal));
        assert!(Rank::new(1000, Priority::Normal) < Rank::new(1000, Priority::Low));
        assert!(Rank::new(1000, Priority::Low) < Rank::new(1001, Priority::High));
        assert_eq!(Rank::new(1000, Priority::Low), Rank::plain(1000));
    }

    #[test]
    fn parts_can_be_read_back_and_moved() {
        let rank = Rank::new(1000, Priority::default());
        assert_eq!((rank.due_at_ms(), rank.digit(), rank.as_u64()), (1000, 4, 10_004));
        assert_eq!(rank.moved_to(2000), Rank::from_u64(20_004));
        assert_eq!(serde_json::to_string(&(rank, Priority::High)).unwrap(), r#"[10004,"high"]"#);
    }

    #[test]
    fn the_extremes_saturate() {
        assert_eq!(Rank::with_digit(u64::MAX, 255), Rank::plain(MAX_DUE_AT_MS));
        assert_eq!(Rank::plain(u64::MAX).digit(), 9);
        assert_eq!(republish_backoff(Duration::MAX), Duration::from_secs(300));
    }
}
