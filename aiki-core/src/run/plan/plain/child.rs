//! Children that plain workers start with a request of its own.

use super::PlainError;
use crate::id::RunId;
use crate::run::head::RunHead;
use crate::run::history::{Entry, HistoryEntry};
use crate::run::plan::{CreateRun, MAX_DEPTH};
use crate::time::Timestamp;

/// Judges whether a plain worker may start a child for `parent`. The parent's state does not matter.
///
/// # Errors
/// [`PlainError::Revision`] when it has moved on, [`PlainError::Refused`] when the child would be
/// nested too deep.
pub fn judge_parent(parent: &RunHead, expected_revision: u64) -> Result<(), PlainError> {
    if parent.revision != expected_revision {
        return Err(PlainError::Revision { expected: expected_revision, actual: parent.revision });
    }
    if parent.depth >= MAX_DEPTH {
        return Err(PlainError::Refused(format!(
            "the parent {} has {} ancestors, the limit is {MAX_DEPTH}: does a workflow start itself?",
            parent.id, parent.depth
        )));
    }
    Ok(())
}

/// Plans that `parent` has a new child: it lists the child, and is told of its end. Answers the child's
/// place among the parent's children.
pub fn adopt_plainly(
    parent: &mut RunHead,
    child: RunId,
    request: &CreateRun,
    now: Timestamp,
    entries: &mut Vec<HistoryEntry>,
) -> u32 {
    let ordinal = parent.children_opened;
    parent.children_opened += 1;
    parent.open_children += 1;
    parent.deliveries = 0;
    let (workflow, input_hash) = (request.workflow.clone(), request.input_hash.clone());
    let reference_id = request.reference.as_ref().map(|reference| reference.id.clone());
    parent.push(now, Entry::ChildOpened { ordinal, run: Some(child), workflow, input_hash, reference_id }, entries);
    ordinal
}
