//! What cron expressions mean where the vectors of the contract are silent.
#![allow(clippy::unwrap_used, reason = "for tests")]

use std::collections::BTreeSet;

use aiki_core::Timestamp;
use aiki_core::schedule::{Occurrences, ScheduleSpec};
use aiki_schedule::{Calendar, SpecError};
use jiff::ToSpan;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use proptest::prelude::*;

fn calendar(expression: &str, zone: &str) -> Calendar {
    Calendar::new(&ScheduleSpec::cron(expression).timezone(zone)).unwrap()
}

fn at(text: &str) -> Timestamp {
    let at: jiff::Timestamp = text.parse().unwrap();
    Timestamp::from_millis(u64::try_from(at.as_millisecond()).unwrap())
}

fn text(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(i64::try_from(at.as_millis()).unwrap()).unwrap().to_string()
}

/// All occurrences in `(after, until]`.
fn all(calendar: &Calendar, after: &str, until: &str) -> Vec<String> {
    let until = at(until);
    std::iter::successors(calendar.next(at(after)), |last| calendar.next(*last))
        .take_while(|occurrence| *occurrence <= until)
        .map(text)
        .collect()
}

fn refusal(expression: &str) -> String {
    Calendar::new(&ScheduleSpec::cron(expression)).unwrap_err().to_string()
}

#[test]
fn a_refused_expression_names_the_field_that_is_wrong() {
    for (expression, wanted) in [
        ("61 * * * *", "the minute `61`"),
        ("* 24 * * *", "the hour `24`"),
        ("* * 32 * *", "the day of the month `32`"),
        ("* * * SMARCH *", "the month `SMARCH`"),
        ("* * * * 8", "the day of the week `8`"),
        ("60 * * * * *", "the second `60`"),
        ("* * * * 5#6", "the day of the week `5#6`"),
        ("0 9 * * MON,", "the day of the week `MON,`"),
        ("* * * * * * *", "has 7 fields"),
        ("1,,2 * * * *", "the minute `1,,2`"),
        ("@reboot", "`@reboot` is not a cron nickname"),
        ("0 0 31 2 *", "`0 0 31 2 *` never occurs"),
        ("0 0 31 4,6,9,11 *", "never occurs"),
    ] {
        let refused = refusal(expression);
        assert!(refused.contains(wanted), "{expression}: {refused}");
    }
    assert!(refusal(&"1,".repeat(200)).contains("the limit is 256"));
}

#[test]
fn a_refused_zone_is_named() {
    for zone in ["Mars/Base", "", "Etc/Unknown", "GMT+25", "../etc/passwd"] {
        let refused = Calendar::new(&ScheduleSpec::cron("0 9 * * *").timezone(zone)).unwrap_err();
        assert_eq!(refused, SpecError::Zone(zone.into()));
        assert!(refused.to_string().contains("Europe/Berlin"), "{refused}");
    }
    assert!(Calendar::new(&ScheduleSpec::cron("0 9 * * *").timezone("europe/berlin")).is_ok());
}

#[test]
fn an_interval_of_nothing_or_of_ages_is_refused() {
    for every_ms in [0, 100 * 365 * 24 * 3_600_000 + 1] {
        let spec = ScheduleSpec::every(std::time::Duration::from_millis(every_ms));
        assert_eq!(Calendar::new(&spec).unwrap_err(), SpecError::Interval(every_ms));
    }
}

#[test]
fn several_skipped_times_are_all_moved_and_none_is_lost() {
    // Berlin skips from 02:00 to 03:00 on 2026-03-29; 03:10 there is 01:10 UTC.
    let twice = calendar("10,45 2 * * *", "Europe/Berlin");
    assert_eq!(
        all(&twice, "2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z"),
        ["2026-03-29T01:10:00Z", "2026-03-29T01:45:00Z", "2026-03-30T00:10:00Z", "2026-03-30T00:45:00Z"]
    );
    assert_eq!(
        twice.latest(at("2026-03-28T12:00:00Z"), at("2026-03-29T01:50:00Z")).map(text).unwrap(),
        "2026-03-29T01:45:00Z"
    );
}

#[test]
fn a_moved_time_that_meets_another_occurs_once() {
    let both = calendar("30 2,3 * * *", "Europe/Berlin");
    assert_eq!(
        all(&both, "2026-03-28T12:00:00Z", "2026-03-30T00:31:00Z"),
        ["2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"]
    );
}

#[test]
fn a_moved_time_does_not_hide_an_earlier_one() {
    // 02:50 is moved to 03:50, behind 03:00.
    let days = calendar("0,50 2-3 * * *", "Europe/Berlin");
    assert_eq!(
        all(&days, "2026-03-29T00:30:00Z", "2026-03-29T12:00:00Z"),
        ["2026-03-29T01:00:00Z", "2026-03-29T01:50:00Z"]
    );
}

#[test]
fn a_repeated_time_occurs_once_and_a_passing_hour_twice() {
    // Berlin repeats 02:00 to 03:00 on 2026-10-25, at 00:00 and at 01:00 UTC.
    let day = ("2026-10-24T23:59:59Z", "2026-10-25T02:00:00Z");
    assert_eq!(
        all(&calendar("30 2,3 * * *", "Europe/Berlin"), day.0, "2026-10-25T02:30:00Z"),
        ["2026-10-25T00:30:00Z", "2026-10-25T02:30:00Z"]
    );
    assert_eq!(
        all(&calendar("30 * * * *", "Europe/Berlin"), day.0, day.1),
        ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"]
    );
}

#[test]
fn a_passing_hour_that_is_skipped_has_nothing() {
    assert_eq!(
        all(&calendar("*/30 * * * *", "Europe/Berlin"), "2026-03-29T00:00:00Z", "2026-03-29T02:00:00Z"),
        ["2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z", "2026-03-29T02:00:00Z"]
    );
}

#[test]
fn clocks_that_change_by_half_an_hour_and_a_day_that_never_was() {
    // Lord Howe moves by 30 minutes: 02:15 becomes 02:45 on 2026-10-04, 15:45 UTC of the day before.
    assert_eq!(
        all(&calendar("15 2 * * *", "Australia/Lord_Howe"), "2026-10-03T12:00:00Z", "2026-10-04T12:00:00Z"),
        ["2026-10-03T15:45:00Z"]
    );
    // Apia had no 2011-12-30. Its noon is moved by a day, on top of that of the 31st.
    assert_eq!(
        all(&calendar("0 12 * * *", "Pacific/Apia"), "2011-12-29T00:00:00Z", "2012-01-01T00:00:00Z"),
        ["2011-12-29T22:00:00Z", "2011-12-30T22:00:00Z", "2011-12-31T22:00:00Z"]
    );
}

#[test]
fn fields_that_libraries_like_to_differ_in() {
    let first = |expression: &str| text(calendar(expression, "UTC").next(at("2026-02-01T00:00:00Z")).unwrap());
    for (expression, expected) in [
        ("0 0 * * 0", "2026-02-08T00:00:00Z"),
        ("0 0 * * 7", "2026-02-08T00:00:00Z"),
        ("0 0 * * sun", "2026-02-08T00:00:00Z"),
        ("0 0 * * FRI-SUN", "2026-02-06T00:00:00Z"),
        ("0 0 * * 5L", "2026-02-27T00:00:00Z"),
        ("0 0 15 * 1", "2026-02-02T00:00:00Z"),
        ("0 0 L 2 ?", "2026-02-28T00:00:00Z"),
        ("30 30 12 * * *", "2026-02-01T12:30:30Z"),
        ("@Midnight", ""),
        ("@annually", "2027-01-01T00:00:00Z"),
    ] {
        match expected {
            "" => assert!(refusal(expression).contains("nickname"), "{expression}"),
            expected => assert_eq!(first(expression), expected, "{expression}"),
        }
    }
}

#[test]
fn the_end_of_time_is_no_occurrence() {
    let daily = calendar("0 0 * * *", "UTC");
    assert_eq!(daily.next(Timestamp::MAX), None);
    assert_eq!(daily.latest(Timestamp::MAX, Timestamp::MAX), None);
    let every = Calendar::new(&ScheduleSpec::every(std::time::Duration::from_secs(1))).unwrap();
    assert_eq!(every.next(Timestamp::MAX), None);
    assert_eq!(every.latest(at("2026-01-02T00:00:00Z"), at("2026-01-01T00:00:00Z")), None);
}

/// Every occurrence in `(after, until]`, found by looking at each minute.
fn by_hand(hours: &BTreeSet<i8>, minutes: &BTreeSet<i8>, zone: &TimeZone, after: u64, until: u64) -> Vec<u64> {
    let instant = |ms: u64| jiff::Timestamp::from_millisecond(i64::try_from(ms).unwrap()).unwrap();
    let fits = |local: DateTime| hours.contains(&local.hour()) && minutes.contains(&local.minute());
    let mut found = BTreeSet::new();
    if hours.len() == 24 {
        let mut at = after / 60_000 * 60_000;
        while at <= until {
            found.extend(fits(zone.to_datetime(instant(at))).then_some(at));
            at += 60_000;
        }
    } else {
        let mut local = zone.to_datetime(instant(after)).round(jiff::Unit::Minute).unwrap() - 1.day();
        let end = zone.to_datetime(instant(until)) + 1.day();
        while local <= end {
            if fits(local) {
                let at = zone.to_ambiguous_timestamp(local).compatible().unwrap();
                found.insert(u64::try_from(at.as_millisecond()).unwrap());
            }
            local += 1.minute();
        }
    }
    found.range(after + 1..=until).copied().collect()
}

fn subset(of: i8, size: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = BTreeSet<i8>> {
    prop::collection::btree_set(0..of, size)
}

proptest! {
    #[test]
    fn occurrences_are_those_that_are_found_by_hand(
        minutes in subset(60, 1..4),
        hours in prop_oneof![3 => subset(24, 1..6), 2 => subset(5, 1..5), 1 => Just((0..24).collect())],
        zone in prop::sample::select(vec![
            "UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "Asia/Kathmandu",
            "America/Santiago", "Pacific/Apia",
        ]),
        // Any time of ten years, or near a change of the clocks.
        start in prop_oneof![
            1_577_836_800_000..1_893_456_000_000_u64,
            1_774_656_000_000..1_774_828_800_000_u64,
            1_772_928_000_000..1_773_014_400_000_u64,
            1_325_030_400_000..1_325_376_000_000_u64,
        ],
        length in 0..172_800_000_u64,
    ) {
        let list = |numbers: &BTreeSet<i8>| numbers.iter().map(i8::to_string).collect::<Vec<_>>().join(",");
        let calendar = calendar(&format!("{} {} * * *", list(&minutes), list(&hours)), zone);
        let zone = TimeZone::get(zone).unwrap();
        let expected = by_hand(&hours, &minutes, &zone, start, start + length);
        let (after, until) = (Timestamp::from_millis(start), Timestamp::from_millis(start + length));
        let found: Vec<_> = std::iter::successors(calendar.next(after), |last| calendar.next(*last))
            .take_while(|occurrence| *occurrence <= until)
            .map(Timestamp::as_millis)
            .collect();
        // Asked from a time that is none of its own, moved ones of that hour are over by the wall.
        let since_change = zone.preceding(jiff::Timestamp::from_millisecond(start as i64 + 1).unwrap()).next();
        let lately = since_change.is_some_and(|change| start as i64 - change.timestamp().as_millisecond() < 86_400_000);
        match lately {
            false => prop_assert_eq!(&found, &expected),
            true => prop_assert!(expected.ends_with(&found), "{:?} in {:?}", found, expected),
        }
        prop_assert_eq!(calendar.latest(after, until).map(Timestamp::as_millis), expected.last().copied());
    }

    #[test]
    fn no_expression_makes_it_panic_or_go_backwards(
        expression in "[@*/0-9,LW#?HA-Za-z+ -]{0,24}|([0-9*/,#LW?-]{1,6} ){4,6}",
        zone in prop::sample::select(vec!["UTC", "Europe/Berlin"]),
        after in 0..4_102_444_800_000_u64,
    ) {
        if let Ok(calendar) = Calendar::new(&ScheduleSpec::cron(expression).timezone(zone)) {
            let after = Timestamp::from_millis(after);
            let next = calendar.next(after);
            prop_assert!(next.is_some_and(|next| next > after), "{:?}", next);
        }
    }

    #[test]
    fn the_latest_is_the_last_of_all(
        expression in prop::sample::select(vec![
            "*/7 * * * * *", "*/5 * * * *", "10,45 2 * * *", "0 * * * *", "30 1,2,3 * * *", "0 0 1 * *", "59 23 29 2 *", "* 2 * * 7",
        ]),
        zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]),
        // Two days around the changes of 2026 in Berlin.
        start in prop::sample::select(vec![1_774_656_000_000_u64, 1_792_800_000_000]),
        offset in 0..172_800_000_u64,
        length in 0..7_200_000_u64,
    ) {
        let calendar = calendar(expression, zone);
        let (after, until) = (Timestamp::from_millis(start + offset), Timestamp::from_millis(start + offset + length));
        let listed: Vec<_> = std::iter::successors(calendar.next(after), |last| calendar.next(*last))
            .take_while(|occurrence| *occurrence <= until)
            .collect();
        prop_assert!(listed.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", listed);
        prop_assert!(listed.iter().all(|occurrence| *occurrence > after));
        let latest = calendar.latest(after, until);
        // Asked from a time that is none of its own, the list goes by the wall and may begin later.
        match listed.last() {
            Some(last) => prop_assert_eq!(latest, Some(*last)),
            None => prop_assert!(latest.is_none_or(|latest| after < latest && latest <= until)),
        }
    }
}
