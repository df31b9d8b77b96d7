//! Points in time and the seam through which core learns what time it is.

use std::fmt;
use std::time::Duration;

use serde::de::{Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// A point in time: whole milliseconds since the Unix epoch, UTC.
///
/// Reads a number with a fraction too, rounded up: peers send some.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The Unix epoch.
    pub const EPOCH: Timestamp = Timestamp(0);
    /// The last point in time that can be expressed; "never" where a deadline is needed.
    pub const MAX: Timestamp = Timestamp(u64::MAX);

    /// Milliseconds since the Unix epoch.
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// This point plus `duration`, rounded up to the next millisecond, never past [`Timestamp::MAX`].
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(ceil_millis(duration)))
    }

    /// Time from `earlier` to this point; zero when `earlier` is not earlier.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Millis;
        impl Visitor<'_> for Millis {
            type Value = Timestamp;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("milliseconds since the Unix epoch")
            }

            fn visit_u64<E: serde::de::Error>(self, ms: u64) -> Result<Timestamp, E> {
                Ok(Timestamp(ms))
            }

            fn visit_f64<E: serde::de::Error>(self, ms: f64) -> Result<Timestamp, E> {
                match ms >= 0.0 {
                    // The cast saturates.
                    true => Ok(Timestamp(ms.ceil() as u64)),
                    false => Err(E::invalid_value(Unexpected::Float(ms), &self)),
                }
            }
        }
        deserializer.deserialize_u64(Millis)
    }
}

/// ISO 8601 in UTC, such as `2026-03-01T00:00:00.000Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, ms) = (self.0 / 86_400_000, self.0 % 86_400_000);
        // Years begin in March here, so that a leap day is the last of its year; eras of 400 years repeat.
        let shifted = days + 719_468;
        let (era, day) = (shifted / 146_097, shifted % 146_097);
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day = day - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        let year = era * 400 + year + u64::from(month <= 2);
        let (seconds, ms) = (ms / 1_000, ms % 1_000);
        let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{ms:03}Z")
    }
}

/// Whole milliseconds of `duration`, rounded up, so that a wait is never shorter than asked for.
pub fn ceil_millis(duration: Duration) -> u64 {
    let whole = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if duration.subsec_nanos().is_multiple_of(1_000_000) { whole } else { whole.saturating_add(1) }
}

/// Durations as whole milliseconds, rounded up, for `#[serde(with = "...")]`.
pub mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::ceil_millis;

    /// Writes a number of milliseconds.
    ///
    /// # Errors
    /// The serializer's own.
    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(ceil_millis(*duration))
    }

    /// Reads a number of milliseconds.
    ///
    /// # Errors
    /// It is no whole number.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

/// The same for durations that may be absent; together with `#[serde(default)]`.
pub mod optional_millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::ceil_millis;

    /// Writes a number of milliseconds.
    ///
    /// # Errors
    /// The serializer's own.
    pub fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => serializer.serialize_u64(ceil_millis(*duration)),
            None => serializer.serialize_none(),
        }
    }

    /// Reads a number of milliseconds.
    ///
    /// # Errors
    /// It is no whole number.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(deserializer)?.map(Duration::from_millis))
    }
}

/// Tells the time. Core never asks the operating system; whoever composes the program says how.
pub trait Clock: Send + Sync + 'static {
    /// The current time.
    fn now(&self) -> Timestamp;

    /// Whether the clock and the runtime's timers go by the same time. Where they do not, because a clock
    /// may be set, long waits look at the clock again every few seconds.
    fn keeps_timers(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fraction_of_a_millisecond_rounds_up() {
        assert_eq!(ceil_millis(Duration::from_micros(1)), 1);
        assert_eq!(ceil_millis(Duration::from_millis(7)), 7);
        assert_eq!(Timestamp::from_millis(5).after(Duration::from_nanos(1)).as_millis(), 6);
    }

    #[test]
    fn a_peer_may_send_a_fraction() {
        let read = |text| serde_json::from_str::<Timestamp>(text).map(Timestamp::as_millis).ok();
        assert_eq!(read("1795416117886"), Some(1_795_416_117_886));
        assert_eq!((read("7.0"), read("7.25"), read("1e300")), (Some(7), Some(8), Some(u64::MAX)));
        assert_eq!((read("-1"), read("-0.5"), read("\"7\""), read("null")), (None, None, None, None));
        assert_eq!(read("18446744073709551615"), Some(u64::MAX));
    }

    #[test]
    fn a_time_reads_as_iso_8601_on_leap_days_and_at_both_ends() {
        let at = |ms| Timestamp::from_millis(ms).to_string();
        assert_eq!(at(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(1_772_323_200_000), "2026-03-01T00:00:00.000Z");
        assert_eq!(at(951_827_696_789), "2000-02-29T12:34:56.789Z");
        assert_eq!(at(951_868_800_000), "2000-03-01T00:00:00.000Z");
        assert_eq!(at(4_107_542_399_999), "2100-02-28T23:59:59.999Z");
        assert_eq!(at(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
        assert!(Timestamp::MAX.to_string().starts_with("584556019-"));
    }

    #[test]
    fn the_far_future_saturates() {
        assert_eq!(Timestamp::MAX.after(Duration::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::EPOCH.since(Timestamp::MAX), Duration::ZERO);
    }
}
