//! Runs of schedules that a server with exact timers has made and the recorded one had not.
//!
//! The recorded server looked for due schedules every ten seconds. When it was late, `skip` and `cancel_previous` took
//! the latest of several occurrences and `allow` had not made the last ones yet. A server that is on time has made a
//! run of each (section 12.7 of the contract), but never more of them than the schedule fired.

use serde_json::{Value, json};

use super::ids::Ids;
use super::pace::{every, every_of};
use super::recording::Exchange;
use super::timeline::Timeline;

/// Runs that may come on top of one for each interval: at the beginning, and while the answer is under way.
const EDGES: f64 = 2.0;

/// Takes the runs out of a live list that the recorded server had not made. Nothing when the list is not that of one
/// schedule or of its workflow, or when it has no more runs than recorded, or too many.
#[must_use]
pub fn without_extra(
    exchange: &Exchange,
    timeline: &Timeline,
    ids: &Ids,
    recorded: &Value,
    live: &Value,
) -> Option<Value> {
    let filters = exchange.input()?.get("filters")?;
    let of = |other: &Exchange| {
        let schedule = other.output()?.get("schedule")?;
        let asked = [("/scheduleId", "id"), ("/workflow/name", "workflowName")]
            .map(|(asked, field)| filters.pointer(asked).is_some_and(|asked| Some(asked) == schedule.get(field)));
        every(other).filter(|_| asked.contains(&true))
    };
    let every = timeline.exchanges.iter().filter_map(of).reduce(f64::min)?;
    let list = |value: &Value| value.get("runs").and_then(Value::as_array).cloned();
    let (ours, theirs) = (list(recorded)?, list(live)?);
    let extra = theirs.len().checked_sub(ours.len()).filter(|extra| *extra > 0)?;
    let made: Vec<f64> = theirs.iter().filter_map(|run| run.get("createdAt")?.as_f64()).collect();
    let (first, last) = (made.iter().copied().reduce(f64::min)?, made.iter().copied().reduce(f64::max)?);
    if count(theirs.len()) > (last - first) / every + EDGES {
        return None;
    }
    let kept = matched(ids, &ours, &theirs)?;
    let mut live = live.clone();
    let total = live.get("total")?.as_u64()?.checked_sub(u64::try_from(extra).ok()?)?;
    let fields = live.as_object_mut()?;
    fields.insert("runs".to_owned(), kept.into_iter().collect());
    fields.insert("total".to_owned(), json!(total));
    Some(live)
}

/// For each recorded run the one that stands for it already, else the next one of its status that stands for none.
fn matched(ids: &Ids, ours: &[Value], theirs: &[Value]) -> Option<Vec<Value>> {
    let mut rest = theirs.iter();
    let one = |run: &Value| {
        let bound = run.get("id").and_then(Value::as_str).and_then(|id| ids.bound(id));
        let fits = |live: &&Value| match bound {
            Some(id) => live["id"] == id,
            None => live["status"] == run["status"] && live["id"].as_str().is_none_or(|id| ids.recorded(id).is_none()),
        };
        rest.find(fits).cloned()
    };
    ours.iter().map(one).collect()
}

/// [`forgive`] for whatever an answer tells of schedules. Whether anything was forgiven.
pub fn forgive_all(recorded: &Value, live: &mut Value, now: f64) -> bool {
    let lists = (recorded.get("schedules").and_then(Value::as_array), live.get_mut("schedules"));
    let (Some(ours), Some(Value::Array(theirs))) = lists else { return forgive(recorded, live, now) };
    ours.iter().zip(theirs).fold(false, |any, (recorded, live)| forgive(recorded, live, now) || any)
}

/// Sets the count of a live schedule to the recorded one when it is higher for no other reason than that the server
/// was on time. `now`: when the live answer came, ms.
pub fn forgive(recorded: &Value, live: &mut Value, now: f64) -> bool {
    let counts = (recorded.get("runCount").and_then(Value::as_u64), live.get("runCount").and_then(Value::as_u64));
    let (Some(ours), Some(theirs)) = counts else { return false };
    let schedule = live.get("schedule").unwrap_or(&Value::Null);
    let created = schedule.get("createdAt").and_then(Value::as_f64);
    let (Some(every), Some(created)) = (every_of(schedule), created) else { return false };
    let possible = (now - created) / every + EDGES;
    let more = ours < theirs && possible >= usize::try_from(theirs).map_or(f64::INFINITY, count);
    // A schedule that has fired once has an occurrence, which one that has not lacks.
    let fired = live.pointer("/schedule/lastOccurrence").cloned();
    if more && let Some(fields) = live.as_object_mut() {
        fields.insert("runCount".to_owned(), json!(ours));
        if let Some(schedule) = fields.get_mut("schedule").and_then(Value::as_object_mut)
            && recorded.pointer("/schedule/lastOccurrence").is_none()
            && fired.is_some()
        {
            schedule.remove("lastOccurrence");
        }
    }
    more
}

#[expect(clippy::cast_precision_loss, reason = "lists are short")]
fn count(of: usize) -> f64 {
    of as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(count: u64) -> Value {
        json!({"runCount": count, "schedule": {"spec": {"type": "interval", "everyMs": 1000}, "createdAt": 10_000, "lastOccurrence": 14_000}})
    }

    #[test]
    fn a_server_on_time_may_have_fired_more_often_but_not_oftener_than_the_clock() {
        let mut live = schedule(5);
        assert!(forgive(&schedule(2), &mut live, 14_500.0) && live == schedule(2));
        let mut twice = schedule(9);
        assert!(!forgive(&schedule(2), &mut twice, 14_500.0) && twice == schedule(9));
        let mut fewer = schedule(1);
        assert!(!forgive(&schedule(2), &mut fewer, 14_500.0));
    }

    #[test]
    fn the_runs_that_were_not_recorded_are_taken_out() {
        let run = |id: &str, status: &str, at: u64| json!({"id": id, "status": status, "createdAt": at});
        let (ours, mut ids) = ([run("A", "queued", 0), run("B", "cancelled", 0)], Ids::default());
        let theirs = [run("W", "queued", 3000), run("X", "cancelled", 2000), run("Y", "cancelled", 1000)];
        assert_eq!(matched(&ids, &ours, &theirs).unwrap(), theirs[..2]);
        let (b, y) = ("01M83JBM94YMGCFVBTE30SPYTX", "01M83JBM94YMGCFVBTE30SPYTY");
        ids.bind(super::super::ids::Kind::Thing, b, y).unwrap();
        let theirs = [run("W", "queued", 3000), run("X", "cancelled", 2000), run(y, "cancelled", 1000)];
        let kept = matched(&ids, &[run("A", "queued", 0), run(b, "cancelled", 0)], &theirs).unwrap();
        assert_eq!(kept, [theirs[0].clone(), theirs[2].clone()]);
        assert!(matched(&ids, &[run("A", "running", 0)], &theirs).is_none());
    }
}
