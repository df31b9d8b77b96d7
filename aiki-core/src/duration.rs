//! Durations as JSON has them: a number of milliseconds, or an object of days down to milliseconds.

use std::fmt;
use std::time::Duration;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Whole numbers below this are exact in an `f64`.
const EXACT_BELOW: f64 = 9_007_199_254_740_992.0;

/// A duration in milliseconds, possibly with a fraction; never negative, always finite.
///
/// Reads `1500`, `1.5` or `{"minutes": 1, "seconds": 30}`; writes a number of milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct WireDuration(f64);

/// A number that is not a duration.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum WireDurationError {
    /// The number is below zero.
    #[error("`{field}` must not be negative, but is {value}")]
    Negative {
        /// `duration`, or the unit that is at fault, such as `seconds`.
        field: &'static str,
        /// The number.
        value: f64,
    },
    /// The number is infinite or not a number, or the sum of all units is too large.
    #[error("`{field}` must be finite, but is {value}")]
    NotFinite {
        /// `duration`, or the unit that is at fault, such as `seconds`.
        field: &'static str,
        /// The number.
        value: f64,
    },
}

impl WireDuration {
    /// A duration of `ms` milliseconds.
    ///
    /// # Errors
    /// [`WireDurationError`] when `ms` is negative, infinite or not a number.
    pub fn from_ms(ms: f64) -> Result<Self, WireDurationError> {
        checked("duration", ms).map(Self)
    }

    /// Milliseconds.
    pub fn as_ms(self) -> f64 {
        self.0
    }

    /// The nearest duration in whole nanoseconds; beyond `u64::MAX` milliseconds it is that.
    pub fn to_duration(self) -> Duration {
        let whole = self.0.trunc();
        let nanos = ((self.0 - whole) * 1e6).round();
        // Both casts saturate.
        Duration::from_millis(whole as u64) + Duration::from_nanos(nanos as u64)
    }
}

/// It is never NaN.
impl Eq for WireDuration {}

impl From<Duration> for WireDuration {
    fn from(duration: Duration) -> Self {
        Self(duration.as_secs() as f64 * 1e3 + f64::from(duration.subsec_nanos()) / 1e6)
    }
}

impl Serialize for WireDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.fract() == 0.0 && self.0 < EXACT_BELOW {
            serializer.serialize_u64(self.0 as u64)
        } else {
            serializer.serialize_f64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for WireDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DurationVisitor)
    }
}

struct DurationVisitor;

impl<'de> Visitor<'de> for DurationVisitor {
    type Value = WireDuration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of milliseconds or an object of days, hours, minutes, seconds, milliseconds")
    }

    fn visit_u64<E: serde::de::Error>(self, ms: u64) -> Result<WireDuration, E> {
        Ok(WireDuration(ms as f64))
    }

    fn visit_i64<E: serde::de::Error>(self, ms: i64) -> Result<WireDuration, E> {
        self.visit_f64(ms as f64)
    }

    fn visit_f64<E: serde::de::Error>(self, ms: f64) -> Result<WireDuration, E> {
        WireDuration::from_ms(ms).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<WireDuration, A::Error> {
        let units = Units::deserialize(MapAccessDeserializer::new(map))?;
        if units == Units::default() {
            return Err(A::Error::custom(
                "the duration is empty: give it days, hours, minutes, seconds or milliseconds",
            ));
        }
        units.total_ms().map(WireDuration).map_err(A::Error::custom)
    }
}

#[derive(Default, PartialEq, Deserialize)]
struct Units {
    days: Option<f64>,
    hours: Option<f64>,
    minutes: Option<f64>,
    seconds: Option<f64>,
    milliseconds: Option<f64>,
}

impl Units {
    fn total_ms(&self) -> Result<f64, WireDurationError> {
        let parts = [
            ("days", self.days, 86_400_000.0),
            ("hours", self.hours, 3_600_000.0),
            ("minutes", self.minutes, 60_000.0),
            ("seconds", self.seconds, 1000.0),
            ("milliseconds", self.milliseconds, 1.0),
        ];
        let mut total = 0.0;
        for (field, value, ms) in parts {
            total += checked(field, value.unwrap_or(0.0))? * ms;
        }
        checked("duration", total)
    }
}

fn checked(field: &'static str, value: f64) -> Result<f64, WireDurationError> {
    if !value.is_finite() {
        Err(WireDurationError::NotFinite { field, value })
    } else if value < 0.0 {
        Err(WireDurationError::Negative { field, value })
    } else {
        // The absolute value only turns minus zero into zero.
        Ok(value.abs())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bad_durations_name_the_field() {
        for (text, named) in [
            ("-1", "`duration` must not be negative, but is -1"),
            (r#"{"seconds":-1}"#, "`seconds` must not be negative, but is -1"),
            (r#"{"days":1e305}"#, "`duration` must be finite"),
            ("{}", "the duration is empty"),
            (r#"{"second":5}"#, "the duration is empty"),
            ("\"5s\"", "expected a number of milliseconds or an object"),
        ] {
            let error = serde_json::from_str::<WireDuration>(text).unwrap_err().to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
        assert!(matches!(WireDuration::from_ms(f64::NAN), Err(WireDurationError::NotFinite { field: "duration", .. })));
    }

    #[test]
    fn written_as_milliseconds() {
        for (ms, text) in [(5000.0, "5000"), (1.5, "1.5"), (-0.0, "0")] {
            assert_eq!(serde_json::to_string(&WireDuration::from_ms(ms).unwrap()).unwrap(), text);
        }
    }

    #[test]
    fn the_extremes_saturate() {
        assert_eq!(WireDuration::from_ms(f64::MAX).unwrap().to_duration(), Duration::from_millis(u64::MAX));
        assert!(WireDuration::from(Duration::MAX).as_ms() > 1e22);
        assert_eq!(WireDuration::from_ms(0.999_999_9).unwrap().to_duration(), Duration::from_millis(1));
    }

    proptest! {
        #[test]
        fn nanoseconds_survive(nanos in 0_u64..1_000_000_000_000_000) {
            let duration = Duration::from_nanos(nanos);
            let text = serde_json::to_string(&WireDuration::from(duration)).unwrap();
            prop_assert_eq!(serde_json::from_str::<WireDuration>(&text).unwrap().to_duration(), duration);
        }
    }
}
