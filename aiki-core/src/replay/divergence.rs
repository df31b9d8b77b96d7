//! Explaining that code and record have parted ways.

use std::fmt::Write;

use super::recorded::Recorded;
use super::step::TaskCall;
use crate::failure::ErrorObject;
use crate::run::TaskRecord;

/// The name under which a divergence is recorded.
pub(crate) const NAME: &str = "NonDeterminismError";
/// At most this many leftovers are listed.
const LISTED: usize = 5;

/// The error of a run whose code asked for `call` while recorded tasks were left over.
pub(super) fn explain(call: &TaskCall, recorded: &Recorded) -> ErrorObject {
    let left = recorded.leftovers();
    let mut text = format!(
        "the workflow's code no longer follows its record: at {} it calls task `{}`, which is not recorded, while {} \
         recorded {} not asked for. ",
        call.location,
        call.name,
        left.len(),
        if left.len() == 1 { "task was" } else { "tasks were" },
    );
    if let Some((nearest, what)) = nearest(call, &left) {
        let _ = write!(text, "Nearest recorded task: `{}` ({what}). ", nearest.name);
        if nearest.name == call.name {
            let show = |payload: Option<&crate::Payload>| {
                payload.map_or("nothing".to_owned(), |payload| payload.as_str().chars().take(200).collect())
            };
            let _ = write!(
                text,
                "Recorded input: {}; input now: {}. ",
                show(nearest.input.as_ref()),
                show(call.input.as_ref())
            );
        }
    }
    let _ = write!(text, "Not asked for: ");
    for (at, task) in left.iter().take(LISTED).enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        let _ = write!(text, "{comma}`{}` ({})", task.name, task.state.status());
    }
    if left.len() > LISTED {
        let _ = write!(text, " and {} more", left.len() - LISTED);
    }
    text.push_str(". Give changed code a new version, or keep the old calls where runs are still under way.");
    ErrorObject::new(NAME, text)
}

fn nearest<'r>(call: &TaskCall, left: &[&'r TaskRecord]) -> Option<(&'r TaskRecord, &'static str)> {
    let same_name = left.iter().find(|task| task.name == call.name).map(|task| (*task, "same name, another input"));
    let same_input =
        || left.iter().find(|task| task.input_hash == call.input_hash).map(|task| (*task, "same input, another name"));
    same_name.or_else(same_input).or_else(|| left.first().map(|task| (*task, "the first one left over")))
}
