//! Whether a live answer says what the recorded one said.

use serde_json::{Map, Value};

use super::ids::{Ids, Kind, Piece, is_id, pieces, time_of};
use super::names::PAYLOADS;

/// Stands in an expected answer for any time.
pub const ANY_TIME: &str = "\u{1}time";
/// Stands in an expected answer for any id.
pub const ANY_ID: &str = "\u{1}id";

/// Numbers that come from a clock.
const TIMES: [&str; 14] = [
    "createdAt",
    "updatedAt",
    "scheduledAt",
    "wakeupAt",
    "nextAttemptAt",
    "timeoutAt",
    "completedAt",
    "cancelledAt",
    "receivedAt",
    "timedOutAt",
    "nextRunAt",
    "lastOccurrence",
    "lastRunAt",
    "firstSeenAt",
];
/// Lists whose order the contract leaves open.
const SETS: [&str; 3] = ["sentIds", "failedIds", "cancelledIds"];
/// How far a time may be from where the recorded one was, ms, when it was counted from "now".
const TIME_TOLERANCE: f64 = 5_000.0;
/// What was created within so long, ms, may have been created at the same time.
const AT_ONCE: u64 = 20;
/// Any other time has to be this near, ms.
const TIME_HORIZON: f64 = 400.0 * 86_400_000.0;

/// One value that is not as recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct Mismatch {
    /// JSON pointer into the answer; `status` for the status and the error's code.
    pub pointer: String,
    /// What was expected there; nothing when the key was absent.
    pub recorded: Option<Value>,
    /// What is there.
    pub live: Option<Value>,
}

/// What "now" was when the two answers were given, ms since the epoch.
#[derive(Debug, Clone, Copy)]
pub struct Moments {
    /// For the recorded answer.
    pub recorded: f64,
    /// For the live answer.
    pub live: f64,
    /// Whether times of the answer were counted from that moment, as in answers to transitions.
    pub exact: bool,
}

/// One comparison; binds the ids that it meets for the first time.
#[derive(Debug)]
pub struct Compare<'a> {
    ids: &'a mut Ids,
    moments: Moments,
    error: bool,
    any_order: bool,
    found: Vec<Mismatch>,
}

impl<'a> Compare<'a> {
    /// `error`: the answer is an error, whose message is free. `any_order`: a list of runs whose
    /// order is free.
    #[must_use]
    pub fn new(ids: &'a mut Ids, moments: Moments, error: bool, any_order: bool) -> Self {
        Self { ids, moments, error, any_order, found: Vec::new() }
    }

    /// Compares whole bodies.
    #[must_use]
    pub fn bodies(mut self, recorded: &Value, live: &Value) -> Vec<Mismatch> {
        self.value("", "", false, recorded, live);
        self.found
    }

    fn differ(&mut self, at: &str, recorded: Option<Value>, live: Option<&Value>) {
        self.found.push(Mismatch { pointer: at.to_owned(), recorded, live: live.cloned() });
    }

    fn value(&mut self, at: &str, key: &str, payload: bool, recorded: &Value, live: &Value) {
        let payload = payload || PAYLOADS.contains(&key);
        if !payload && (TIMES.contains(&key) || key == "durationMs") {
            return self.time(at, key, recorded, live);
        }
        match (recorded, live) {
            (Value::Object(recorded), Value::Object(live)) => self.object(at, payload, recorded, live),
            (Value::Array(recorded), Value::Array(live)) => self.array(at, key, payload, recorded, live),
            (Value::String(recorded), Value::String(live)) => self.text(at, key, recorded, live),
            (Value::Number(one), Value::Number(other)) if one.as_f64() == other.as_f64() => {}
            (recorded, live) if recorded == live => {}
            (recorded, live) => {
                let expected = self.ids.value(recorded);
                self.differ(at, Some(expected), Some(live));
            }
        }
    }

    fn object(&mut self, at: &str, payload: bool, recorded: &Map<String, Value>, live: &Map<String, Value>) {
        // Ids and inputs first: hashes follow from them.
        let mut keys: Vec<&String> = recorded.keys().collect();
        keys.sort_by_key(|key| (*key != "id", *key != "input"));
        for key in keys {
            if key == "inputHash" {
                self.ids.learn_hash(recorded);
            }
            let expected = self.ids.text(key);
            let at = format!("{at}/{}", expected.replace('~', "~0").replace('/', "~1"));
            match (recorded.get(key), live.get(&expected)) {
                (Some(recorded), Some(live)) => self.value(&at, key, payload, recorded, live),
                (Some(recorded), None) => {
                    let recorded = self.ids.value(recorded);
                    self.differ(&at, Some(recorded), None);
                }
                (None, _) => {}
            }
        }
        let expected: Vec<String> = recorded.keys().map(|key| self.ids.text(key)).collect();
        for (key, value) in live {
            if !expected.contains(key) {
                self.differ(&format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), None, Some(value));
            }
        }
    }

    fn array(&mut self, at: &str, key: &str, payload: bool, recorded: &[Value], live: &[Value]) {
        if recorded.len() != live.len() {
            let recorded = recorded.iter().map(|value| self.ids.value(value)).collect();
            return self.differ(at, Some(recorded), Some(&Value::from(live.to_vec())));
        }
        let by_id = self.any_order || at.contains("/tasks/") || at.contains("/childWorkflowRuns/");
        let mut rest: Vec<&Value> = recorded.iter().collect();
        for (place, live) in live.iter().enumerate() {
            let chosen = if payload {
                0
            } else if SETS.contains(&key) {
                rest.iter()
                    .position(|value| value.as_str().map(|id| self.ids.text(id)).as_deref() == live.as_str())
                    .unwrap_or_default()
            } else if by_id {
                self.same_id(&rest, live)
            } else if key == "runs" {
                self.near_id(&rest, live)
            } else if key == "transitions" {
                self.same_moment(&rest, live)
            } else {
                0
            };
            let recorded = rest.remove(chosen);
            self.value(&format!("{at}/{place}"), "", payload, recorded, live);
        }
        if by_id && !payload {
            self.ascending(at, live);
        } else if key == "runs" && !payload {
            self.sorted_alike(at, recorded, live);
        }
    }

    fn same_id(&self, rest: &[&Value], live: &Value) -> usize {
        let Some(live) = live.get("id").and_then(Value::as_str) else { return 0 };
        let bound = |value: &&Value| value.get("id").and_then(Value::as_str).and_then(|id| self.ids.bound(id));
        rest.iter().position(|value| bound(value) == Some(live)).unwrap_or_default()
    }

    /// Runs that were created at the same time have got their ids in another order when they are created one after the
    /// other.
    fn near_id(&self, rest: &[&Value], live: &Value) -> usize {
        let time = |value: &Value| value.get("id").and_then(Value::as_str).map(time_of);
        let first = rest.first().and_then(|value| time(value)).unwrap_or_default();
        let near = |value: &Value| time(value).is_some_and(|time| time.abs_diff(first) <= AT_ONCE);
        let place = self.same_id(rest, live);
        if rest.get(place).is_some_and(|value| near(value)) { place } else { 0 }
    }

    /// Recorded ids of one millisecond are in no order; take the one that fits.
    fn same_moment(&self, rest: &[&Value], live: &Value) -> usize {
        let time = |value: &Value| value.get("id").and_then(Value::as_str).map(time_of);
        let first = rest.first().and_then(|value| time(value));
        let fits = |value: &&Value| {
            let mut ids = self.ids.clone();
            Compare::new(&mut ids, self.moments, self.error, false).bodies(value, live).is_empty()
        };
        rest.iter().take_while(|value| time(value) == first).position(fits).unwrap_or_default()
    }

    fn ascending(&mut self, at: &str, live: &[Value]) {
        let ids: Vec<&str> = live.iter().filter_map(|value| value.get("id")?.as_str()).collect();
        if !ids.is_sorted() {
            let mut sorted = ids.clone();
            sorted.sort_unstable();
            self.differ(at, Some(Value::from(sorted)), Some(&Value::from(ids)));
        }
    }

    /// A list of runs is sorted by their ids, whichever of those that were created at the same time came first.
    fn sorted_alike(&mut self, at: &str, recorded: &[Value], live: &[Value]) {
        let ids = |list: &[Value]| -> Vec<String> {
            list.iter().filter_map(|run| Some(run.get("id")?.as_str()?.to_owned())).collect()
        };
        let (ours, theirs) = (ids(recorded), ids(live));
        let descending = |ids: &[String]| ids.iter().rev().is_sorted();
        if ours.is_sorted() != theirs.is_sorted() || descending(&ours) != descending(&theirs) {
            let expected = ours.iter().map(|id| Value::String(self.ids.text(id))).collect();
            self.differ(at, Some(expected), Some(&Value::from(theirs)));
        }
    }

    fn time(&mut self, at: &str, key: &str, recorded: &Value, live: &Value) {
        let ok = match (recorded.as_f64(), live.as_f64()) {
            (None, None) => recorded == live,
            (None, Some(_)) => recorded == ANY_TIME,
            (Some(_), None) => false,
            (Some(_), Some(live)) if key == "durationMs" => live >= 1.0 && live.fract() == 0.0,
            (Some(recorded), Some(live)) => {
                let (recorded, live) = (recorded - self.moments.recorded, live - self.moments.live);
                let limit = if self.moments.exact { TIME_TOLERANCE } else { TIME_HORIZON };
                (recorded - live).abs() <= limit
            }
        };
        if !ok {
            self.differ(at, Some(recorded.clone()), Some(live));
        }
    }

    fn text(&mut self, at: &str, key: &str, recorded: &str, live: &str) {
        if (self.error && key == "message") || (recorded == ANY_ID && is_id(live)) {
            return;
        }
        let transition = key.ends_with("tateTransitionId") || (key == "id" && at.contains("/transitions/"));
        let kind = if transition { Kind::Transition } else { Kind::Thing };
        let (ours, theirs) = (pieces(recorded), pieces(live));
        let occurrence = recorded.starts_with("schedule:") || recorded.contains("schedule:01");
        let mut wrong = (ours.len() != theirs.len()).then(|| self.ids.text(recorded));
        for (ours, theirs) in ours.iter().zip(&theirs) {
            let expected = match (ours, theirs) {
                (Piece::Id(recorded), Piece::Id(live) | Piece::Text(live)) => self.ids.bind(kind, recorded, live).err(),
                (Piece::Hash(recorded), Piece::Hash(live)) if self.ids.hash(recorded) == *live => None,
                (Piece::Text(recorded), Piece::Text(live)) if recorded == live => None,
                (Piece::Text(recorded), Piece::Text(live)) if occurrence && is_time(recorded) && is_time(live) => None,
                _ => Some(self.ids.text(recorded)),
            };
            wrong = wrong.or(expected);
        }
        if wrong.is_none() && recorded.starts_with("schedule:") {
            self.ids.refer(recorded, live);
        }
        if let Some(expected) = wrong {
            self.differ(at, Some(Value::String(expected)), Some(&Value::String(live.to_owned())));
        }
    }
}

fn is_time(text: &str) -> bool {
    text.strip_prefix(':').is_some_and(|digits| digits.len() == 13 && digits.chars().all(|c| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn runs_of_one_moment_may_have_changed_places_but_not_the_direction_of_the_list() {
        let recorded = ["01M83J4201AAAAAAAAAAAAAAAA", "01M83J4202BBBBBBBBBBBBBBBB"];
        let live = ["01M8739100AAAAAAAAAAAAAAAA", "01M8739101BBBBBBBBBBBBBBBB"];
        let list = |ids: [&str; 2]| json!({"runs": [{"id": ids[0]}, {"id": ids[1]}]});
        let moments = Moments { recorded: 0.0, live: 0.0, exact: false };
        // The run that was created first here was recorded as the second.
        let mut ids = Ids::default();
        ids.bind(Kind::Thing, recorded[0], live[1]).unwrap();
        ids.bind(Kind::Thing, recorded[1], live[0]).unwrap();
        let mut found = |live| Compare::new(&mut ids, moments, false, false).bodies(&list(recorded), &list(live));
        assert_eq!(found(live), []);
        let [first, second] = live;
        assert_eq!(found([second, first])[0].pointer, "/runs");
    }
}
