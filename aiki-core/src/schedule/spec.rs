//! When a schedule starts runs, and what becomes of the previous one.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::ceil_millis;

/// What happens when an occurrence comes while the run of the one before has not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OverlapPolicy {
    /// Every occurrence has its run, also those that were missed while the schedule was paused or the server was
    /// down.
    Allow,
    /// The occurrence is left out. Of several missed ones only the latest counts.
    #[default]
    Skip,
    /// The previous run is cancelled. Of several missed ones only the latest counts.
    CancelPrevious,
}

/// The points in time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Timing {
    /// Every so often, counted from the last occurrence, and from the schedule's creation before there is one.
    Interval {
        /// Milliseconds from one occurrence to the next.
        every_ms: u64,
    },
    /// By the calendar.
    Cron {
        /// Five fields (minute hour day month weekday), or six with the second in front.
        expression: String,
        /// The IANA name of the zone whose local time is meant; `None` is UTC.
        timezone: Option<String>,
    },
}

/// When a schedule starts runs, as it was asked for. Whether the expression and the zone can be used is not known
/// here; the server judges them.
///
/// The wire form is the contract's, so that definition hashes agree with those of other clients.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "WireSpec", into = "WireSpec")]
pub struct ScheduleSpec {
    /// The points in time.
    pub timing: Timing,
    /// What the caller said about overlaps; `None` counts as [`OverlapPolicy::Skip`] but is another definition.
    pub overlap: Option<OverlapPolicy>,
}

impl ScheduleSpec {
    /// By a cron expression, in UTC.
    pub fn cron(expression: impl Into<String>) -> Self {
        Self { timing: Timing::Cron { expression: expression.into(), timezone: None }, overlap: None }
    }

    /// Every so often, in whole milliseconds, rounded up.
    pub fn every(interval: Duration) -> Self {
        Self { timing: Timing::Interval { every_ms: ceil_millis(interval) }, overlap: None }
    }

    /// Means the local time of this IANA zone. An interval has no use for it.
    #[must_use]
    pub fn timezone(mut self, zone: impl Into<String>) -> Self {
        if let Timing::Cron { timezone, .. } = &mut self.timing {
            *timezone = Some(zone.into());
        }
        self
    }

    /// Says what becomes of the previous run.
    #[must_use]
    pub fn overlap(mut self, policy: OverlapPolicy) -> Self {
        self.overlap = Some(policy);
        self
    }

    /// The overlap policy in force.
    pub fn overlap_policy(&self) -> OverlapPolicy {
        self.overlap.unwrap_or_default()
    }
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WireType {
    Interval,
    Cron,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireSpec {
    r#type: WireType,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    every_ms: Option<WholeMillis>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expression: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timezone: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    overlap_policy: Option<OverlapPolicy>,
}

/// A number of the wire: `1000.0` is as good as `1000`.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "f64")]
struct WholeMillis(u64);

impl TryFrom<f64> for WholeMillis {
    type Error = String;

    fn try_from(millis: f64) -> Result<Self, String> {
        /// Beyond it a double skips whole numbers.
        const LARGEST: f64 = 9_007_199_254_740_992.0;
        match millis.fract() == 0.0 && (1.0..=LARGEST).contains(&millis) {
            true => Ok(Self(millis as u64)),
            false => Err(format!("everyMs is {millis}: give whole milliseconds, 1 or more")),
        }
    }
}

impl Serialize for WholeMillis {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl TryFrom<WireSpec> for ScheduleSpec {
    type Error = &'static str;

    fn try_from(wire: WireSpec) -> Result<Self, Self::Error> {
        let timing = match wire.r#type {
            WireType::Interval => {
                Timing::Interval { every_ms: wire.every_ms.ok_or("a schedule of type interval needs everyMs")?.0 }
            }
            WireType::Cron => Timing::Cron {
                expression: wire.expression.ok_or("a schedule of type cron needs an expression")?,
                timezone: wire.timezone,
            },
        };
        Ok(Self { timing, overlap: wire.overlap_policy })
    }
}

impl From<ScheduleSpec> for WireSpec {
    fn from(spec: ScheduleSpec) -> Self {
        let (r#type, every_ms, expression, timezone) = match spec.timing {
            Timing::Interval { every_ms } => (WireType::Interval, Some(WholeMillis(every_ms)), None, None),
            Timing::Cron { expression, timezone } => (WireType::Cron, None, Some(expression), timezone),
        };
        Self { r#type, every_ms, expression, timezone, overlap_policy: spec.overlap }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_form_is_that_of_the_contract() {
        for text in [
            r#"{"type":"interval","everyMs":1000}"#,
            r#"{"type":"cron","expression":"0 9 * * *","timezone":"Europe/Berlin","overlapPolicy":"cancel_previous"}"#,
            r#"{"type":"cron","expression":"@daily","overlapPolicy":"skip"}"#,
        ] {
            let spec: ScheduleSpec = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&spec).unwrap(), text);
        }
        let spec: ScheduleSpec = serde_json::from_str(r#"{"type":"interval","everyMs":1e3,"x":1}"#).unwrap();
        assert_eq!(spec, ScheduleSpec::every(Duration::from_secs(1)));
    }

    #[test]
    fn a_spec_that_lacks_its_time_is_refused_with_the_reason() {
        for (text, wanted) in [
            (r#"{"type":"interval"}"#, "needs everyMs"),
            (r#"{"type":"interval","everyMs":0}"#, "1 or more"),
            (r#"{"type":"interval","everyMs":1.5}"#, "whole milliseconds"),
            (r#"{"type":"cron"}"#, "needs an expression"),
            (r#"{"type":"moon"}"#, "moon"),
        ] {
            let error = serde_json::from_str::<ScheduleSpec>(text).unwrap_err().to_string();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }
}
