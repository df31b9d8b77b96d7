//! Cron expressions: which points in time they name.
//!
//! The expression names local times. How local times become points in time on the days when clocks
//! change is decided here and not by the library that matches fields:
//!
//! * An expression that says something about the hour means that hour by the clock on the wall. A
//!   time that is skipped occurs as much later as the clock jumps: 02:30 becomes 03:30. A time that
//!   comes twice occurs once, the first time. Whoever asks from 03:10, which is no occurrence, is told
//!   by the wall: 02:30 is over for that day.
//! * An expression that fits every hour follows the hours as they pass: the hour that comes twice
//!   has its occurrences twice, the skipped one has none.

mod parse;

use std::fmt;

use aiki_core::Timestamp;
use jiff::ToSpan;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};

use crate::error::SpecError;

/// The longest expression, in bytes.
pub(crate) const MAX_EXPRESSION: usize = 256;

/// Local times that are looked at around one change of the clocks, at most: every second of two days.
const MAX_LOCAL_TIMES: usize = 2 * 86_400;
/// Changes of the clocks that are crossed on the way to one occurrence, at most.
const MAX_CHANGES: usize = 10_000;

#[derive(Clone)]
pub(crate) struct Cron {
    fields: croner::Cron,
    zone: TimeZone,
    /// The expression fits every hour of the day.
    every_hour: bool,
}

impl Cron {
    pub(crate) fn new(expression: &str, zone: TimeZone) -> Result<Self, SpecError> {
        let fields = parse::parse(expression)?;
        let every_hour = fields.pattern.hours.values().len() == 24;
        let cron = Self { fields, zone, every_hour };
        // What occurs once occurs again within forty years: no field names a year. The library looks up to
        // the year 5000, so this is two hundred years and not all of history.
        match cron.next_local(DateTime::constant(4800, 1, 1, 0, 0, 0, 0)) {
            Some(_) => Ok(cron),
            None => Err(SpecError::Never(expression.to_owned())),
        }
    }

    pub(crate) fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let after = to_jiff(after)?;
        let skipped = self.skipped_lately(after);
        // From one moved occurrence to the next moved one; else by the wall.
        let moved = skipped > 0
            && self.zone.to_datetime(after).checked_sub(skipped.seconds()).is_ok_and(|local| {
                after.subsec_nanosecond() == 0 && self.fields.is_time_matching(&local).unwrap_or(false)
            });
        self.next_behind(after, if moved { skipped } else { 0 })
    }

    /// The first of all occurrences behind `after`: ascends with it, as [`next`](Self::next) does not quite.
    fn first(&self, after: Timestamp) -> Option<Timestamp> {
        let after = to_jiff(after)?;
        self.next_behind(after, self.skipped_lately(after))
    }

    /// Looks at local times from `back` seconds before that of `after`.
    fn next_behind(&self, after: jiff::Timestamp, back: i64) -> Option<Timestamp> {
        let next = if self.every_hour { self.next_passing(after) } else { self.next_named(after, back) };
        next.and_then(from_jiff)
    }

    /// The last occurrence in `(after, until]`: the border between the points in time whose next
    /// occurrence is not behind `until` and those whose is.
    pub(crate) fn latest(&self, after: Timestamp, until: Timestamp) -> Option<Timestamp> {
        let reaches = |from: u64| self.first(Timestamp::from_millis(from)).is_some_and(|next| next <= until);
        let (mut low, mut high) = (after.as_millis(), until.as_millis());
        if low >= high || !reaches(low) {
            return None;
        }
        // Look near `until` first, then ever farther back.
        let mut back = 1_000;
        while high - low > back {
            match reaches(high - back) {
                true => low = high - back,
                false => (high, back) = (high - back, back * 2),
            }
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if reaches(middle) { low = middle } else { high = middle }
        }
        self.first(Timestamp::from_millis(low))
    }

    /// The next local time behind `after` that fits the fields.
    fn next_local(&self, after: DateTime) -> Option<DateTime> {
        self.fields.find_next_occurrence(&after, false).ok()
    }

    /// Follows the hours as they pass, from one change of the clocks to the next.
    fn next_passing(&self, after: jiff::Timestamp) -> Option<jiff::Timestamp> {
        let mut from = after;
        let mut local = self.zone.to_offset(after).to_datetime(after);
        for _ in 0..MAX_CHANGES {
            let next = self.zone.to_offset(from).to_timestamp(self.next_local(local)?).ok()?;
            let Some(change) = self.zone.following(from).next().filter(|change| change.timestamp() <= next) else {
                return Some(next);
            };
            from = change.timestamp();
            // The moment of the change itself is one of those to be looked at.
            local = change.offset().to_datetime(from).checked_sub(1.second()).ok()?;
        }
        None
    }

    /// Takes the local times one after the other and asks when each is.
    fn next_named(&self, after: jiff::Timestamp, back: i64) -> Option<jiff::Timestamp> {
        let mut local = self.zone.to_datetime(after).checked_sub(back.seconds()).ok()?;
        let mut earliest = None;
        for _ in 0..MAX_LOCAL_TIMES {
            local = self.next_local(local)?;
            let ambiguous = self.zone.to_ambiguous_timestamp(local);
            let skipped = matches!(ambiguous.offset(), AmbiguousOffset::Gap { .. });
            let at = ambiguous.compatible().ok()?;
            if at <= after {
                continue;
            }
            earliest = Some(earliest.map_or(at, |earliest: jiff::Timestamp| earliest.min(at)));
            // A skipped time is moved behind times that follow it on the wall.
            if !skipped {
                return earliest;
            }
        }
        earliest
    }

    /// How far the clocks jumped just before `after`, in seconds, when times that were skipped may still
    /// be to come; else 0.
    fn skipped_lately(&self, after: jiff::Timestamp) -> i64 {
        let seconds = |offset: Offset| i64::from(offset.seconds());
        let just_after = after.checked_add(1.millisecond()).unwrap_or(after);
        let Some(change) = self.zone.preceding(just_after).next() else { return 0 };
        let before = change.timestamp().checked_sub(1.second()).map(|before| self.zone.to_offset(before));
        let jump = before.map_or(0, |before| seconds(change.offset()) - seconds(before));
        let passed = after.as_second() - change.timestamp().as_second();
        if passed < jump { jump } else { 0 }
    }
}

impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cron").field("fields", &self.fields.as_str()).field("zone", &self.zone).finish_non_exhaustive()
    }
}

fn to_jiff(at: Timestamp) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_millisecond(i64::try_from(at.as_millis()).ok()?).ok()
}

fn from_jiff(at: jiff::Timestamp) -> Option<Timestamp> {
    u64::try_from(at.as_millisecond()).ok().map(Timestamp::from_millis)
}
