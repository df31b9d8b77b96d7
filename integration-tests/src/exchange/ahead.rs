//! What a recorded answer would have been one step of a daemon later.
//!
//! The recorded server polled for what was due; a server with exact timers has often taken that
//! step already when the run is read (section 12.7 of the contract). Exactly one such step is
//! accepted, with everything that belongs to it.

use serde_json::{Map, Value, json};

use super::compare::{ANY_ID, ANY_TIME};

/// A step that is due later than this after the recorded answer, ms, cannot have been taken.
const SOON: f64 = 3_000.0;

/// The output one step later; nothing when no daemon had a step to take. `now`: when the recorded
/// answer was given.
#[must_use]
pub fn later(procedure: &str, output: &Value, now: f64) -> Option<Value> {
    let mut output = output.clone();
    let step = match procedure {
        "workflowRun/getStateV1" => {
            let state = output.get_mut("state")?;
            let step = Step::of(state, now)?;
            *state = step.state();
            return Some(output);
        }
        "workflowRun/getByIdV1" | "workflowRun/getByReferenceIdV1" => Step::of(output.pointer("/run/state")?, now)?,
        _ => return None,
    };
    step.take(output.get_mut("run")?.as_object_mut()?)?;
    Some(output)
}

/// A list of runs, where those that were due at once are queued already.
#[must_use]
pub fn listed(recorded: &Value, live: &Value) -> Value {
    let mut out = recorded.clone();
    let runs = (out.get_mut("runs").and_then(Value::as_array_mut), live.get("runs").and_then(Value::as_array));
    let (Some(ours), Some(theirs)) = runs else { return out };
    for (run, live) in ours.iter_mut().zip(theirs) {
        if run["status"] == "scheduled" && live["status"] == "queued" {
            run["status"] = json!("queued");
        }
    }
    out
}

/// Counts of runs, where as many more are queued as fewer are scheduled.
#[must_use]
pub fn counted(recorded: &Value, live: &Value) -> Option<Value> {
    let of = |value: &Value, status: &str| value.pointer(&format!("/stats/runsByStatus/{status}"))?.as_u64();
    let moved = of(recorded, "scheduled")?.checked_sub(of(live, "scheduled")?).filter(|moved| *moved > 0)?;
    let mut out = recorded.clone();
    let counts = out.pointer_mut("/stats/runsByStatus")?;
    counts["scheduled"] = json!(of(recorded, "scheduled")? - moved);
    counts["queued"] = json!(of(recorded, "queued")? + moved);
    Some(out)
}

/// Takes the daemons' own transitions out of a live list of transitions, until it has as many as
/// were recorded.
#[must_use]
pub fn without_steps(recorded: &Value, live: &Value) -> Option<Value> {
    let of = |value: &Value| value.get("transitions").and_then(Value::as_array).cloned();
    let status = |value: &Value| value.pointer("/state/status").and_then(Value::as_str).map(str::to_owned);
    let (ours, mut theirs) = (of(recorded)?, of(live)?);
    let surplus = theirs.len().checked_sub(ours.len())?;
    for _ in 0..surplus {
        let place = theirs.iter().enumerate().position(|(at, live)| ours.get(at).and_then(status) != status(live))?;
        if status(theirs.get(place)?).as_deref() != Some("queued") {
            return None;
        }
        theirs.remove(place);
    }
    let total = live.get("total")?.as_u64()?.checked_sub(u64::try_from(surplus).ok()?)?;
    let mut live = live.clone();
    let fields = live.as_object_mut()?;
    fields.insert("transitions".to_owned(), Value::from(theirs));
    fields.insert("total".to_owned(), json!(total));
    Some(live)
}

/// What a daemon does next with a run.
struct Step {
    reason: String,
    state: Map<String, Value>,
}

impl Step {
    fn of(state: &Value, now: f64) -> Option<Self> {
        let state = state.as_object()?;
        let (due, reason) = match state.get("status")?.as_str()? {
            "scheduled" => ("scheduledAt", state.get("reason")?.as_str()?),
            "sleeping" => ("wakeupAt", "wakeup"),
            "awaiting_retry" => ("nextAttemptAt", "retry"),
            "awaiting_event" => ("timeoutAt", "event_wait_timeout"),
            "awaiting_child_workflow" => ("timeoutAt", "child_workflow_wait_timeout"),
            _ => return None,
        };
        let due = state.get(due)?.as_f64()?;
        (due <= now + SOON).then(|| Self { reason: reason.to_owned(), state: state.clone() })
    }

    fn state(&self) -> Value {
        json!({"status": "queued", "reason": self.reason})
    }

    fn take(&self, run: &mut Map<String, Value>) -> Option<()> {
        let field = |name: &str| self.state.get(name).and_then(Value::as_str);
        match self.reason.as_str() {
            "wakeup" => {
                let sleep = run.get_mut("sleeps")?.get_mut(field("sleepName")?)?.as_array_mut()?.last_mut()?;
                *sleep = json!({"status": "completed", "durationMs": 1, "completedAt": ANY_TIME});
            }
            "event_wait_timeout" => {
                let waits = run.get_mut("eventWaits")?.as_object_mut()?;
                let list = waits.entry(field("eventName")?).or_insert_with(|| json!([]));
                list.as_array_mut()?.push(json!({"status": "timeout", "timedOutAt": ANY_TIME}));
            }
            "child_workflow_wait_timeout" => {
                let child = field("childWorkflowRunId")?;
                let lists = run.get_mut("childWorkflowRuns")?.as_object_mut()?;
                let mut children = lists.values_mut().filter_map(Value::as_array_mut).flatten();
                let child = children.find(|entry| entry.get("id").is_some_and(|id| id == child))?;
                let waits = child.get_mut("waits")?.get_mut(field("childWorkflowRunStatus")?)?.as_array_mut()?;
                waits.push(json!({"status": "timeout", "timedOutAt": ANY_TIME}));
            }
            "retry" => {
                let attempts = run.get("attempts")?.as_u64()?;
                run.insert("attempts".to_owned(), json!(attempts + 1));
                let kept = |task: &Value| task.pointer("/state/status").is_some_and(|status| status == "completed");
                let tasks = run.get_mut("tasks")?.as_object_mut()?;
                tasks.values_mut().filter_map(Value::as_array_mut).for_each(|list| list.retain(kept));
                tasks.retain(|_, list| list.as_array().is_some_and(|list| !list.is_empty()));
            }
            _ => {}
        }
        let revision = run.get("revision")?.as_i64()?;
        run.insert("revision".to_owned(), json!(revision + 1));
        run.insert("stateTransitionId".to_owned(), json!(ANY_ID));
        run.insert("state".to_owned(), self.state());
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_due_at_once_may_be_queued_in_a_list_and_nothing_else_may_differ() {
        let runs = |statuses: &[&str]| {
            let runs: Vec<Value> = statuses.iter().map(|status| json!({"status": status})).collect();
            json!({"runs": runs, "total": statuses.len()})
        };
        let live = runs(&["queued", "queued", "scheduled", "failed"]);
        let later = listed(&runs(&["scheduled", "running", "scheduled", "scheduled"]), &live);
        assert_eq!(later, runs(&["queued", "running", "scheduled", "scheduled"]));
    }

    #[test]
    fn as_many_more_may_be_queued_as_fewer_are_scheduled() {
        let counts = |scheduled: u64, queued: u64| json!({"stats": {"runsByStatus": {"scheduled": scheduled, "queued": queued, "failed": 1}}});
        assert_eq!(counted(&counts(3, 1), &counts(1, 3)), Some(counts(1, 3)));
        assert_eq!(counted(&counts(3, 1), &counts(1, 9)), Some(counts(1, 3)), "the rest is for the comparison");
        assert_eq!(counted(&counts(1, 3), &counts(3, 1)), None);
    }
}
