//! Explaining that code and record have parted ways.

use std::fmt::Write;

use super::recorded::Recorded;
use super::step::{ChildCall, TaskCall};
use crate::failure::ErrorObject;
use crate::run::TaskRecord;

/// The name under which a divergence is recorded.
pub(crate) const NAME: &str = "NonDeterminismError";
/// At most this many leftovers are listed.
const LISTED: usize = 5;

/// The error of a run whose code asked for `call` while recorded calls were left over.
pub(super) fn explain(call: &TaskCall, recorded: &Recorded) -> ErrorObject {
    let left = recorded.tasks_left();
    let mut text = opening(&call.location.to_string(), &format!("calls task `{}`", call.name), recorded);
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
    close(text, recorded)
}

/// The same for a child that the code starts.
pub(super) fn explain_child(call: &ChildCall, recorded: &Recorded) -> ErrorObject {
    let start = &call.start;
    let mut text = opening(&call.location.to_string(), &format!("starts child `{}`", start.workflow), recorded);
    let left = recorded.children_left();
    let same_code = left.iter().find(|child| child.workflow == start.workflow);
    let same_name = || left.iter().find(|child| child.workflow.name == start.workflow.name);
    if let Some(nearest) = same_code.or_else(same_name).or(left.first()) {
        let what = match () {
            () if nearest.workflow.name != start.workflow.name => "the first one left over",
            () if nearest.workflow != start.workflow => "another version",
            () if nearest.reference_id.as_deref() != start.reference.as_ref().map(|reference| &*reference.id) => {
                "another reference id"
            }
            () => "another input",
        };
        let _ = write!(text, "Nearest recorded child: `{}` ({what}). ", nearest.workflow);
    }
    close(text, recorded)
}

fn opening(location: &str, call: &str, recorded: &Recorded) -> String {
    let left = recorded.tasks_left().len() + recorded.children_left().len();
    format!(
        "the workflow's code no longer follows its record: at {location} it {call}, which is not recorded, while \
         {left} recorded {} not asked for. ",
        if left == 1 { "call was" } else { "calls were" },
    )
}

fn close(mut text: String, recorded: &Recorded) -> ErrorObject {
    let tasks = recorded.tasks_left().into_iter().map(|task| format!("task `{}` ({})", task.name, task.state.status()));
    let children = recorded.children_left().into_iter().map(|child| format!("child `{}`", child.workflow));
    let all: Vec<String> = tasks.chain(children).collect();
    let _ = write!(text, "Not asked for: {}", all.iter().take(LISTED).cloned().collect::<Vec<_>>().join(", "));
    if all.len() > LISTED {
        let _ = write!(text, " and {} more", all.len() - LISTED);
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
