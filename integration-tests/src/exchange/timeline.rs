//! What can be told from a recording as a whole: the order in which the requests took effect,
//! whose runs they are about, and how far each run had come.

use std::collections::HashSet;

use serde_json::Value;

use super::ids::{each_id, time_of};
use super::names::PAYLOADS;
use super::recording::{Exchange, Recording};

/// Ids that are older than the recording by more than this, ms, were there before it.
const LEEWAY: u64 = 50;

/// A recording in the order of its effects.
#[derive(Debug, Clone)]
pub struct Timeline {
    /// In the order in which they are replayed.
    pub exchanges: Vec<Exchange>,
    /// Ids of an earlier session that the recorded server still had; nothing about them is replayed.
    pub foreign: HashSet<String>,
    /// Ids that no answer gave: they are unknown on purpose and sent as they are.
    pub unknown: HashSet<String>,
}

/// How far a run is by one exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Its recorded id.
    pub run: String,
    /// Its revision.
    pub revision: i64,
}

impl Timeline {
    /// Works a recording out.
    #[must_use]
    pub fn of(recording: &Recording) -> Self {
        let (foreign, unknown) = origins(recording);
        Self { exchanges: in_order_of_effect(&recording.exchanges), foreign, unknown }
    }

    /// Whether an exchange is about something of an earlier session.
    #[must_use]
    pub fn is_foreign(&self, exchange: &Exchange) -> bool {
        let mut found = false;
        each_id(exchange.request_body.as_ref().unwrap_or(&Value::Null), &mut |id| found |= self.foreign.contains(id));
        found
    }

    /// The highest revision of a run that the recorded participants had seen before a place.
    #[must_use]
    pub fn known(&self, place: usize, run: &str) -> Option<i64> {
        let before = self.exchanges.iter().take(place);
        before.filter_map(after).filter(|mark| mark.run == run).map(|mark| mark.revision).max()
    }

    /// Where a run had to be for the recorded answer to be given.
    #[must_use]
    pub fn needed(&self, place: usize) -> Vec<Mark> {
        let Some(exchange) = self.exchanges.get(place) else { return Vec::new() };
        if let Some(mark) = before(exchange) {
            return vec![mark];
        }
        let cancels = exchange.procedure() == "workflowRun/cancelByIdsV1";
        let mark = |run: String| {
            let next = if cancels { self.cancelled_at(place, &run) } else { None };
            let revision = next.map(|revision| revision - 1).or_else(|| self.known(place, &run))?;
            Some(Mark { run, revision })
        };
        runs_of(exchange).into_iter().filter_map(mark).collect()
    }

    fn cancelled_at(&self, place: usize, run: &str) -> Option<i64> {
        let later = self.exchanges.iter().skip(place + 1);
        let next = later.filter_map(|exchange| Some((exchange, after(exchange)?))).find(|(_, mark)| mark.run == run)?;
        let status = next.0.output()?.pointer("/run/state/status")?;
        (status == "cancelled").then_some(next.1.revision)
    }

    /// The first recorded record of a run.
    #[must_use]
    pub fn record(&self, run: &str) -> Option<&Value> {
        let records = self.exchanges.iter().filter_map(|exchange| exchange.output()?.get("run"));
        records.into_iter().find(|record| record["id"] == run)
    }

    /// Whether a claim of the recording handed out a run of the system.
    #[must_use]
    pub fn claims_system_runs(&self) -> bool {
        let claimed = self.exchanges.iter().flat_map(claimed);
        claimed.filter_map(|run| self.record(run)).any(|record| record["source"] == "system")
    }

    /// Whether somebody else's successful write to the same run was under way at the same time.
    #[must_use]
    pub fn raced(&self, exchange: &Exchange) -> bool {
        let run = target(exchange);
        let won = |other: &&Exchange| {
            other.seq != exchange.seq && other.status == 200 && is_write(other) && target(other) == run
        };
        run.is_some() && self.exchanges.iter().filter(won).any(|other| other.overlaps(exchange))
    }
}

/// The runs that a claim handed out.
pub fn claimed(exchange: &Exchange) -> impl Iterator<Item = &str> {
    let claim = exchange.procedure() == "workflowRun/claimReadyV1";
    let runs = exchange.output().filter(|_| claim).and_then(|output| output.get("runs")?.as_array());
    runs.into_iter().flatten().filter_map(|run| run.get("id")?.as_str())
}

/// The one run that a request changes.
#[must_use]
pub fn target(exchange: &Exchange) -> Option<&str> {
    let input = exchange.input()?;
    let key = match exchange.procedure() {
        "task/transitionStateV1" | "task/setStateV1" => "/workflowRunId",
        "workflowRun/createV1" => "/parent/workflowRunId",
        name if name.starts_with("workflowRun/") => "/id",
        _ => return None,
    };
    input.pointer(key)?.as_str()
}

/// Every run that a request is about.
#[must_use]
pub fn runs_of(exchange: &Exchange) -> Vec<String> {
    let ids = exchange.input().and_then(|input| input.get("ids")?.as_array());
    let ids = ids.into_iter().flatten().filter_map(Value::as_str);
    target(exchange).into_iter().chain(ids).map(str::to_owned).collect()
}

/// Whether a request changes a run or its tasks.
#[must_use]
pub fn is_write(exchange: &Exchange) -> bool {
    matches!(
        exchange.procedure(),
        "workflowRun/transitionStateV1"
            | "workflowRun/createV1"
            | "workflowRun/sendEventV1"
            | "workflowRun/cancelByIdsV1"
            | "task/transitionStateV1"
            | "task/setStateV1"
    )
}

/// Where the run is after a successful exchange.
#[must_use]
pub fn after(exchange: &Exchange) -> Option<Mark> {
    let output = exchange.output()?;
    let (run, revision) = match exchange.procedure() {
        "workflowRun/transitionStateV1" => (target(exchange)?, output.get("revision")?),
        "workflowRun/getByIdV1" | "workflowRun/getByReferenceIdV1" => {
            (output.pointer("/run/id")?.as_str()?, output.pointer("/run/revision")?)
        }
        _ => return None,
    };
    Some(Mark { run: run.to_owned(), revision: revision.as_i64()? })
}

/// Where the run was for a successful exchange, when it says so.
#[must_use]
pub fn before(exchange: &Exchange) -> Option<Mark> {
    let (input, output) = (exchange.input()?, exchange.output()?);
    let revision = match exchange.procedure() {
        "workflowRun/transitionStateV1" => output.get("revision")?.as_i64()? - 1,
        "task/transitionStateV1" => input.get("expectedWorkflowRunRevision")?.as_i64()?,
        "workflowRun/createV1" => input.pointer("/parent/expectedRevision")?.as_i64()?,
        _ => return None,
    };
    Some(Mark { run: target(exchange)?.to_owned(), revision })
}

fn origins(recording: &Recording) -> (HashSet<String>, HashSet<String>) {
    let (mut foreign, mut unknown, mut seen) = (HashSet::new(), HashSet::new(), HashSet::new());
    let old = |id: &str| time_of(id) + LEEWAY < recording.recorded_at_epoch_ms;
    let ended = recording.exchanges.iter().map(|exchange| exchange.received_at_ms).max().unwrap_or_default();
    let early = |id: &str| time_of(id) > recording.recorded_at_epoch_ms + ended + LEEWAY;
    let given = given(recording);
    for exchange in &recording.exchanges {
        // A poll that was folded away may have given the transition from which the next poll goes on.
        let polled = exchange.input().and_then(|input| input.get("afterStateTransitionId")).and_then(Value::as_str);
        each_id(exchange.request_body.as_ref().unwrap_or(&Value::Null), &mut |id| {
            let invented = !given.contains(id) && (polled != Some(id) || early(id));
            if seen.insert(id) && (old(id) || invented) {
                unknown.insert(id.to_owned());
            }
        });
        // What the scenario asked for by name is its own, however old.
        let asked = matches!(exchange.procedure(), "schedule/activateV1" | "workflowRun/createV1");
        each_id(exchange.response_body.as_ref().unwrap_or(&Value::Null), &mut |id| {
            if seen.insert(id) && old(id) && !asked {
                foreign.insert(id.to_owned());
            }
        });
    }
    // Children of foreign runs, and the system's runs about them.
    let mut size = 0;
    while size < foreign.len() {
        size = foreign.len();
        for exchange in &recording.exchanges {
            let Some(output) = exchange.output() else { continue };
            let parent = target(exchange).filter(|_| exchange.procedure() == "workflowRun/createV1");
            let record = |field: &str| output.pointer(field).and_then(Value::as_str);
            let roots = [parent, record("/run/parentWorkflowRunId"), record("/run/input")];
            let id = record("/run/id").or_else(|| record("/id"));
            if let Some(id) = id.filter(|_| roots.iter().flatten().any(|root| foreign.contains(*root))) {
                foreign.insert(id.to_owned());
            }
        }
    }
    (foreign, unknown)
}

/// Every id that an answer gave, echoes apart: what was sent comes back in payloads and among what failed.
fn given(recording: &Recording) -> HashSet<&str> {
    fn walk<'v>(value: &'v Value, ids: &mut HashSet<&'v str>) {
        match value {
            Value::Object(fields) => {
                for (key, value) in fields {
                    if key != "failedIds" && !PAYLOADS.contains(&key.as_str()) {
                        walk(value, ids);
                    }
                }
            }
            Value::Array(values) => values.iter().for_each(|value| walk(value, ids)),
            text => each_id(text, &mut |id| {
                ids.insert(id);
            }),
        }
    }
    let mut ids = HashSet::new();
    recording.exchanges.iter().filter_map(Exchange::output).for_each(|output| walk(output, &mut ids));
    ids
}

fn in_order_of_effect(exchanges: &[Exchange]) -> Vec<Exchange> {
    let mut order = exchanges.to_vec();
    for place in 1..order.len() {
        let (sorted, rest) = order.split_at_mut(place);
        let Some(this) = rest.first() else { break };
        let concurrent = sorted.iter().rev().take_while(|other| other.overlaps(this)).count();
        let first = place - concurrent;
        let wrong = |other: &Exchange| precedes(this, other) && !precedes(other, this);
        if let Some(at) = (first..place).find(|at| sorted.get(*at).is_some_and(wrong)) {
            order[at..=place].rotate_right(1);
        }
    }
    order
}

/// Whether `one` must have taken effect before `other`, by the revisions that they show.
fn precedes(one: &Exchange, other: &Exchange) -> bool {
    let (seen, made) = (before(one).or_else(|| after(one)), after(other).filter(|_| is_write(other)));
    if let (Some(seen), Some(made)) = (&seen, &made)
        && seen.run == made.run
        && seen.revision < made.revision
    {
        return true;
    }
    let same = target(one).is_some() && target(one) == target(other);
    let ended = other.output().and_then(|output| output.pointer("/state/status")).and_then(Value::as_str);
    let ended = matches!(ended, Some("completed" | "failed" | "cancelled"));
    let running = one.output().and_then(|output| output.get("terminated")) == Some(&Value::Bool(false));
    let expected = |exchange: &Exchange| exchange.input().and_then(|input| input.get("expectedRevision")?.as_i64());
    // The loser of two who saw the same revision may find the run where its move is illegal.
    let at_once = one.sent_at_ms < other.received_at_ms && other.sent_at_ms < one.received_at_ms;
    let outrun = at_once && other.status == 400 && expected(other).is_some() && expected(one) == expected(other);
    let lost = outrun || other.code() == Some("WORKFLOW_RUN_REVISION_CONFLICT");
    (same
        && (running && ended
            || lost && one.status == 200 && after(one).is_some() && is_write(one)
            || task_unseen(one, other)))
        || meets(one, other).is_some_and(|done| done)
        || meets(other, one).is_some_and(|done| !done)
}

/// Of the end of a run and somebody's wait for it: whether the wait found the run at its end. Nothing when the two
/// are something else.
fn meets(end: &Exchange, wait: &Exchange) -> Option<bool> {
    let status = |exchange: &Exchange| exchange.output()?.pointer("/state/status")?.as_str().map(str::to_owned);
    let awaited = wait.input()?.pointer("/state/childWorkflowRunId")?.as_str()?;
    let ended = matches!(status(end)?.as_str(), "completed" | "failed" | "cancelled");
    (ended && target(end) == Some(awaited)).then_some(())?;
    match status(wait)?.as_str() {
        "scheduled" => Some(true),
        "awaiting_child_workflow" => Some(false),
        _ => None,
    }
}

/// Whether a record was read before a task's transition.
fn task_unseen(read: &Exchange, write: &Exchange) -> bool {
    let task = write.output().and_then(|output| output.get("taskInfo"));
    let lists = read.output().and_then(|output| output.pointer("/run/tasks")?.as_object());
    let (Some(task), Some(lists)) = (task, lists) else { return false };
    let mut entries = lists.values().filter_map(Value::as_array).flatten();
    entries
        .find(|entry| entry["id"] == task["id"])
        .is_none_or(|entry| entry["state"]["status"] != task["state"]["status"])
}
