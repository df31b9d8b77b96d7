//! Checks occurrences and due times against the vectors of the HTTP contract.
#![allow(clippy::unwrap_used, reason = "for tests")]

use aiki_core::Timestamp;
use aiki_core::schedule::{Occurrences, OverlapPolicy, ScheduleSpec};
use aiki_schedule::Calendar;
use serde_json::Value;

const VECTORS: &str = include_str!("../../aiki-core/tests/vectors/vectors.json");

fn part(name: &str, count: usize) -> Vec<Value> {
    let Ok(Value::Array(part)) = serde_json::from_str(VECTORS).map(|mut all: Value| all[name].take()) else {
        panic!("the vectors have no list {name}");
    };
    assert_eq!(part.len(), count, "{name}");
    part
}

fn spec(vector: &Value) -> ScheduleSpec {
    serde_json::from_value(vector["spec"].clone()).unwrap()
}

fn time(text: &Value) -> Timestamp {
    let text = text.as_str().unwrap();
    let at: jiff::Timestamp = text.parse().unwrap();
    Timestamp::from_millis(u64::try_from(at.as_millisecond()).unwrap())
}

#[test]
fn next_occurrences() {
    for vector in part("nextOccurrence", 40) {
        let calendar = Calendar::new(&spec(&vector));
        match vector.get("throws") {
            Some(_) => assert!(calendar.is_err(), "{vector}: {calendar:?}"),
            None => {
                let anchor = Timestamp::from_millis(vector["anchorMs"].as_u64().unwrap());
                let next = calendar.unwrap().next(anchor).unwrap();
                assert_eq!(next.as_millis(), vector["nextMs"].as_u64().unwrap(), "{vector}: {next}");
            }
        }
    }
}

#[test]
fn due_occurrences() {
    let mut exactly_now = 0;
    for vector in part("dueOccurrences", 28) {
        let spec = spec(&vector);
        let calendar = Calendar::new(&spec).unwrap();
        let anchor = if vector["lastOccurrence"].is_null() { &vector["createdAt"] } else { &vector["lastOccurrence"] };
        let (anchor, now) = (time(anchor), time(&vector["now"]));
        let expected: Vec<_> = vector["dueOccurrences"].as_array().unwrap().iter().map(time).collect();
        let due = |now: Timestamp| match spec.overlap_policy() {
            OverlapPolicy::Allow => std::iter::successors(calendar.next(anchor), |last| calendar.next(*last))
                .take_while(|occurrence| *occurrence <= now)
                .collect(),
            _ => Vec::from_iter(calendar.latest(anchor, now)),
        };
        if expected.is_empty() && due(now) == [now] {
            // The contract's peer looks strictly before now for a cron expression. Ours fires in the
            // millisecond that is due; the peer would in the next one.
            assert!(vector["spec"]["type"] == "cron" && spec.overlap_policy() != OverlapPolicy::Allow, "{vector}");
            assert_eq!(due(Timestamp::from_millis(now.as_millis() - 1)), expected, "{vector}");
            exactly_now += 1;
            continue;
        }
        assert_eq!(due(now), expected, "{vector}");
    }
    assert_eq!(exactly_now, 3);
}
