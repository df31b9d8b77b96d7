//! Times as people read them.

use aiki_core::Timestamp;

/// The time as ISO 8601 in UTC, such as `2026-11-24T14:00:00.250Z`; `never` when no calendar has it.
pub fn utc(time: Timestamp) -> String {
    let millis = i64::try_from(time.as_millis()).ok();
    match millis.and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok()) {
        Some(time) => format!("{time:.3}"),
        None => "never".into(),
    }
}

/// How far a time is away, in its largest unit: `5m ago`, `in 2d`, `now`.
pub fn relative(time: Timestamp, now: Timestamp) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let (past, future) = (now.since(time).as_millis() as u64, time.since(now).as_millis() as u64);
    let millis = past.max(future);
    let Some((size, unit)) = UNITS.iter().find(|(size, _)| millis >= *size) else { return "now".into() };
    let count = millis / size;
    if past > 0 { format!("{count}{unit} ago") } else { format!("in {count}{unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_in_utc_with_its_milliseconds() {
        assert_eq!(utc(Timestamp::from_millis(1_772_323_200_007)), "2026-03-01T00:00:00.007Z");
        assert_eq!(utc(Timestamp::EPOCH), "1970-01-01T00:00:00.000Z");
        assert_eq!(utc(Timestamp::MAX), "never");
    }

    #[test]
    fn a_distance_is_told_in_its_largest_unit() {
        let at = Timestamp::from_millis;
        let now = at(10 * 86_400_000);
        let ago = |millis: u64| relative(at(10 * 86_400_000 - millis), now);
        assert_eq!([ago(999), ago(1_000), ago(59_999), ago(60_000)], ["now", "1s ago", "59s ago", "1m ago"]);
        assert_eq!([ago(3_600_000 * 47), ago(3_600_000 * 23)], ["1d ago", "23h ago"]);
        assert_eq!(relative(at(now.as_millis() + 61_000), now), "in 1m");
    }
}
