//! Calls that were recorded between other implementations of the contract: our types read what was asked, and lose
//! nothing of what was answered.

#![allow(clippy::unwrap_used, reason = "tests")]

use aiki_wire::contract::common::ById;
use aiki_wire::contract::run_request::{
    CancelByIds, ClaimReadyV1, HasTerminated, ListChildRuns, ListRuns, ListTransitions, MulticastByReference,
    MulticastEvent, RunReference, SendEventV1,
};
use aiki_wire::contract::run_transition::RunTransition;
use aiki_wire::contract::schedule::{ActivateV1, Activated, ByReference, CountedSchedule, ListSchedules, ScheduleList};
use aiki_wire::contract::start::CreateV1;
use aiki_wire::contract::task_answer::{FoundTask, TransitionedTask};
use aiki_wire::contract::task_request::{SetTaskState, TaskTransition};
use aiki_wire::contract::workflow::{GetStats, ListVersions, ListWorkflows, StatsAnswer, WorkflowList};
use aiki_wire::contract::{run_answer, run_record};
use aiki_wire::read::{At, Input, Invalid, Read};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

#[derive(Deserialize)]
struct Recorded<'a> {
    from: String,
    call: String,
    #[serde(borrow)]
    request: Enveloped<'a>,
    status: u16,
    #[serde(borrow)]
    answer: Option<Enveloped<'a>>,
}

#[derive(Deserialize)]
struct Enveloped<'a> {
    #[serde(borrow)]
    json: Option<&'a RawValue>,
}

fn recorded() -> impl Iterator<Item = Recorded<'static>> {
    include_str!("recorded.jsonl").lines().map(|line| serde_json::from_str(line).unwrap())
}

/// Reads a request; of one that can be written, the written form is returned too.
fn read<T: Read + Serialize>(raw: Option<&RawValue>) -> Result<Option<String>, Invalid> {
    let Some(raw) = raw else { return T::input(None).map(|_| None) };
    let value = T::read(raw, &At::ROOT)?;
    Ok(Some(serde_json::to_string(&value).unwrap()))
}

fn read_request(call: &str, raw: Option<&RawValue>) -> Result<Option<String>, Invalid> {
    match call {
        "workflowRun/createV1" => read::<CreateV1>(raw),
        "workflowRun/transitionStateV1" => read::<RunTransition>(raw),
        "workflowRun/getByReferenceIdV1" => read::<RunReference>(raw),
        "workflowRun/listV1" => read::<ListRuns>(raw),
        "workflowRun/listTransitionsV1" => read::<ListTransitions>(raw),
        "workflowRun/sendEventV1" => read::<SendEventV1>(raw),
        "workflowRun/multicastEventV1" => read::<MulticastEvent>(raw),
        "workflowRun/multicastEventByReferenceV1" => read::<MulticastByReference>(raw),
        "workflowRun/listChildRunsV1" => read::<ListChildRuns>(raw),
        "workflowRun/cancelByIdsV1" => read::<CancelByIds>(raw),
        "workflowRun/claimReadyV1" => read::<ClaimReadyV1>(raw),
        "workflowRun/hasTerminatedV1" => read::<HasTerminated>(raw),
        "task/transitionStateV1" => read::<TaskTransition>(raw),
        "task/setStateV1" => read::<SetTaskState>(raw),
        "schedule/activateV1" => read::<ActivateV1>(raw),
        "schedule/getByReferenceIdV1" => read::<ByReference>(raw),
        "schedule/listV1" => read::<ListSchedules>(raw),
        "workflow/listV1" => read::<ListWorkflows>(raw),
        "workflow/listVersionsV1" => read::<ListVersions>(raw),
        "workflow/getStatsV1" => GetStats::input(raw).map(|_| None),
        "workflowRun/getByIdV1"
        | "workflowRun/getStateV1"
        | "workflowRun/claimRefreshV1"
        | "task/getByIdV1"
        | "schedule/getByIdV1"
        | "schedule/pauseV1"
        | "schedule/resumeV1"
        | "schedule/deactivateV1" => read::<ById>(raw),
        other => panic!("nothing reads {other}"),
    }
}

/// What our server takes and the recorded one did not; the contract says so of each.
fn is_more_lenient(call: &str, request: &str) -> bool {
    call == "workflowRun/transitionStateV1"
        && (request.contains(r#""nextAttemptInMs":10.5"#) || request.contains(r#""durationMs":0}"#))
}

#[test]
fn every_recorded_request_is_judged_as_it_was() {
    let mut judged = [0, 0];
    for Recorded { from, call, request, status, .. } in recorded() {
        if call.contains("nope") || call == "workflowRun" {
            continue;
        }
        let text = request.json.map_or("", RawValue::get);
        match read_request(&call, request.json) {
            Ok(_) if status == 400 && (is_more_lenient(&call, text) || is_about_state(&from)) => {}
            Ok(written) => {
                assert_ne!(status, 400, "{from} {call} {text}");
                judged[0] += 1;
                if let Some(written) = written {
                    same(&written, text, &from, &["trigger", "everyMs"]);
                }
            }
            Err(error) => {
                assert_eq!(status, 400, "{from} {call} {text}: {error}");
                judged[1] += 1;
            }
        }
    }
    assert!(judged[0] > 100 && judged[1] > 40, "{judged:?}");
}

/// Recordings in which a valid request was refused because of where the run or task stood.
fn is_about_state(from: &str) -> bool {
    !from.starts_with("36:")
}

fn same(ours: &str, recorded: &str, from: &str, other_form: &[&str]) {
    let (ours, recorded): (Value, Value) =
        (serde_json::from_str(ours).unwrap(), serde_json::from_str(recorded).unwrap());
    if other_form.iter().any(|key| recorded.to_string().contains(key)) {
        return;
    }
    assert_eq!(numbers(ours), numbers(recorded), "{from}");
}

/// `1.0` is `1`, a fraction of a millisecond is rounded up, and the default policy may be told.
fn numbers(value: Value) -> Value {
    match value {
        Value::Number(number) => serde_json::json!(number.as_f64().map(f64::ceil)),
        Value::Array(elements) => elements.into_iter().map(numbers).collect(),
        Value::Object(fields) => {
            let told = |(key, value): &(String, Value)| key != "conflictPolicy" || value != "error";
            fields.into_iter().filter(told).map(|(key, value)| (key, numbers(value))).collect()
        }
        other => other,
    }
}

fn rewritten<T: DeserializeOwned + Serialize>(raw: &RawValue, from: &str) -> String {
    let answer: T = serde_json::from_str(raw.get()).unwrap_or_else(|error| panic!("{from}: {error}: {raw}"));
    serde_json::to_string(&answer).unwrap()
}

#[test]
fn nothing_of_a_recorded_answer_is_lost() {
    let mut compared = 0;
    for Recorded { from, call, answer, .. } in recorded() {
        let Some(raw) = answer.and_then(|answer| answer.json) else { continue };
        let ours = match call.as_str() {
            "workflowRun/createV1" => rewritten::<run_answer::CreatedRun>(raw, &from),
            "workflowRun/getByIdV1" | "workflowRun/getByReferenceIdV1" => rewritten::<run_record::FoundRun>(raw, &from),
            "workflowRun/getStateV1" => rewritten::<run_answer::FoundState>(raw, &from),
            "workflowRun/transitionStateV1" => rewritten::<run_answer::RunAfter>(raw, &from),
            "workflowRun/listV1" => rewritten::<run_answer::RunList>(raw, &from),
            "workflowRun/listTransitionsV1" => rewritten::<run_answer::TransitionList>(raw, &from),
            "workflowRun/multicastEventV1" | "workflowRun/multicastEventByReferenceV1" => {
                rewritten::<run_answer::MulticastAnswer>(raw, &from)
            }
            "workflowRun/listChildRunsV1" => rewritten::<run_answer::ChildList>(raw, &from),
            "workflowRun/cancelByIdsV1" => rewritten::<run_answer::CancelledRuns>(raw, &from),
            "workflowRun/claimReadyV1" => rewritten::<run_answer::ReadyRuns>(raw, &from),
            "workflowRun/hasTerminatedV1" => rewritten::<run_answer::Terminated>(raw, &from),
            "task/transitionStateV1" => rewritten::<TransitionedTask>(raw, &from),
            "task/getByIdV1" => rewritten::<FoundTask>(raw, &from),
            "schedule/activateV1" => rewritten::<Activated>(raw, &from),
            "schedule/getByIdV1" | "schedule/getByReferenceIdV1" => rewritten::<CountedSchedule>(raw, &from),
            "schedule/listV1" => rewritten::<ScheduleList>(raw, &from),
            "workflow/listV1" => rewritten::<WorkflowList>(raw, &from),
            "workflow/getStatsV1" => rewritten::<StatsAnswer>(raw, &from),
            other => panic!("nothing reads the answer of {other}"),
        };
        same(&ours, raw.get(), &from, &[]);
        compared += 1;
    }
    assert!(compared > 150, "{compared}");
}
