//! One live answer against the recorded one.

use serde_json::{Value, json};

use super::ahead;
use super::compare::{ANY_ID, Compare, Mismatch, Moments};
use super::ids::Ids;
use super::lists;
use super::live::{Answer, essence};
use super::names::Names;
use super::occurrences;
use super::recording::Exchange;
use super::timeline::Timeline;

/// What a comparison needs to know of the scenario.
#[derive(Debug, Clone, Copy)]
pub struct Court<'a> {
    /// The recording.
    pub timeline: &'a Timeline,
    /// Prefixes of names.
    pub names: &'a Names,
    /// When the recording began, ms since the epoch.
    pub epoch: f64,
}

/// What the comparison says.
#[derive(Debug)]
pub struct Verdict {
    /// What is wrong.
    pub mismatches: Vec<Mismatch>,
    /// The ids as they are known if the answer is accepted.
    pub ids: Ids,
    /// Whether a daemon's step was already taken (section 12.7).
    pub ahead: bool,
}

impl Court<'_> {
    /// Judges. `extra`: how many more transitions than recorded the run of this exchange has had.
    #[must_use]
    pub fn judge(&self, exchange: &Exchange, answer: &Answer, ids: &Ids, extra: i64) -> Verdict {
        let verdict = |mismatches, ids: Ids| Verdict { mismatches, ids, ahead: false };
        if let Some(mismatch) = self.status(exchange, answer) {
            return verdict(mismatch, ids.clone());
        }
        let recorded_type = exchange.response_headers.get("content-type").map(|value| essence(value));
        let mut wrong = Vec::new();
        if let Some(recorded) = recorded_type.filter(|recorded| *recorded != answer.content_type) {
            let live = json!(answer.content_type);
            wrong.push(Mismatch {
                pointer: "content-type".to_owned(),
                recorded: Some(json!(recorded)),
                live: Some(live),
            });
        }
        let Some(recorded) = &exchange.response_body else {
            wrong.extend(text(exchange, answer));
            return verdict(wrong, ids.clone());
        };
        let Some(live) = &answer.body else {
            let recorded = Some(recorded.clone());
            wrong.push(Mismatch { pointer: String::new(), recorded, live: Some(json!(answer.text)) });
            return verdict(wrong, ids.clone());
        };
        let mut result = self.bodies(exchange, recorded, live, answer.at, ids, extra);
        result.mismatches.splice(0..0, wrong);
        result
    }

    fn status(&self, exchange: &Exchange, answer: &Answer) -> Option<Vec<Mismatch>> {
        let code = answer.body.as_ref().and_then(|body| body.pointer("/json/code")).and_then(Value::as_str);
        let name =
            |status: u16, code: Option<&str>| format!("{status} {}", code.unwrap_or_default()).trim_end().to_owned();
        let (recorded, live) = (name(exchange.status, exchange.code()), name(answer.status, code));
        if recorded == live {
            return None;
        }
        // Of two writers at once the loser usually gets 409, sometimes 400 (section 3.3).
        let lost = "409 WORKFLOW_RUN_REVISION_CONFLICT";
        if recorded == lost && live == "400 BAD_REQUEST" && self.timeline.raced(exchange) {
            return Some(Vec::new());
        }
        let (recorded, live) = (Some(json!(recorded)), Some(json!(live)));
        Some(vec![Mismatch { pointer: "status".to_owned(), recorded, live }])
    }

    fn bodies(&self, exchange: &Exchange, recorded: &Value, live: &Value, at: f64, ids: &Ids, extra: i64) -> Verdict {
        let procedure = exchange.procedure();
        let recorded_at = self.epoch + to_f64(exchange.received_at_ms);
        let moments = Moments { recorded: recorded_at, live: at, exact: procedure.ends_with("transitionStateV1") };
        let mut expected = self.names.value(procedure, recorded);
        advance(&mut expected, procedure, extra);
        let mut live = live.clone();
        if exchange.status == 200
            && let (Some(ours), Some(theirs)) = (expected.get("json"), live.get("json"))
            && let Some(cut) = lists::cut(exchange, self.timeline, self.names, ids, ours, theirs)
        {
            expected["json"] = cut.recorded;
            live["json"] = cut.live;
        }
        let not_ended = expected.pointer("/json/terminated") == Some(&Value::Bool(false));
        if procedure == "workflowRun/hasTerminatedV1" && not_ended {
            any_latest(&mut expected);
        }
        let compare = |expected: &Value, live: &Value| {
            let mut ids = ids.clone();
            let any_order = procedure == "workflowRun/listChildRunsV1";
            let mismatches = Compare::new(&mut ids, moments, exchange.status != 200, any_order).bodies(expected, live);
            Verdict { mismatches, ids, ahead: false }
        };
        let mut verdict = compare(&expected, &live);
        if !verdict.mismatches.is_empty() && exchange.status == 200 {
            let (expected, live) =
                (expected.get("json").unwrap_or(&Value::Null), live.get("json").unwrap_or(&Value::Null));
            let on_time = |expected: &Value, live: &Value| compare(&json!({"json": expected}), &json!({"json": live}));
            let other = match procedure {
                "workflowRun/listTransitionsV1" => {
                    ahead::without_steps(expected, live).filter(|cut| cut != live).map(|cut| on_time(expected, &cut))
                }
                "workflowRun/listV1" => {
                    let cut = occurrences::without_extra(exchange, self.timeline, ids, expected, live);
                    let live = cut.as_ref().unwrap_or(live);
                    Some(on_time(&ahead::listed(expected, live), live))
                }
                "workflow/getStatsV1" => ahead::counted(expected, live).map(|later| on_time(&later, live)),
                name if name.starts_with("schedule/") => {
                    let mut live = live.clone();
                    occurrences::forgive_all(expected, &mut live, at).then(|| on_time(expected, &live))
                }
                _ => ahead::later(procedure, expected, recorded_at).map(|later| on_time(&later, live)),
            };
            if let Some(other) = other.filter(|other| other.mismatches.is_empty()) {
                verdict = Verdict { ahead: true, ..other };
            }
        }
        verdict
    }
}

/// A poll that saw no end may have seen another transition than the recorded poll.
fn any_latest(expected: &mut Value) {
    if let Some(latest) = expected.pointer_mut("/json/latestStateTransitionId") {
        *latest = json!(ANY_ID);
    }
}

fn advance(expected: &mut Value, procedure: &str, extra: i64) {
    let at = match procedure {
        "workflowRun/transitionStateV1" => "/json/revision",
        "workflowRun/getByIdV1" | "workflowRun/getByReferenceIdV1" => "/json/run/revision",
        _ => return,
    };
    if let Some(revision) = expected.pointer_mut(at)
        && let Some(recorded) = revision.as_i64()
    {
        *revision = json!(recorded + extra);
    }
}

fn text(exchange: &Exchange, answer: &Answer) -> Option<Mismatch> {
    let recorded = exchange.response_text.clone().unwrap_or_default();
    // The reason of a refusal is free, but there has to be one.
    let ok = if exchange.status == 401 { !answer.text.is_empty() } else { recorded == answer.text };
    let (recorded, live) = (Some(json!(recorded)), Some(json!(answer.text)));
    (!ok).then(|| Mismatch { pointer: String::new(), recorded, live })
}

/// ms as a double; exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "milliseconds stay far below 2^53")]
#[must_use]
pub fn to_f64(ms: u64) -> f64 {
    ms as f64
}
