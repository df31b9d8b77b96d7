//! What a store does for those who look at runs: lists by filter, and one row per workflow version that was used.

use std::collections::HashMap;

use aiki_core::listing::{RunFilter, RunPageRequest};
use aiki_core::name::WorkflowKey;
use aiki_core::run::RunStatus;
use aiki_core::{Name, RunId, Timestamp};

use super::{RunWrite, ScheduleWrite};

/// Which part of which list of runs is asked for. [`RunFilter::matches`] decides; stores that decide elsewhere agree
/// with it.
#[derive(Clone, Debug)]
pub(crate) struct RunQuery {
    pub(crate) namespace: Name,
    pub(crate) filter: RunFilter,
    pub(crate) page: RunPageRequest,
}

/// What a commit means for the row of a workflow version.
#[derive(Debug, PartialEq)]
pub(crate) struct WorkflowChange<'a> {
    pub(crate) namespace: &'a Name,
    pub(crate) workflow: &'a WorkflowKey,
    /// When it is first used, if there is no row yet.
    pub(crate) used_at: Timestamp,
    /// The newest run that is created; `None`: none is.
    pub(crate) last_run: Option<RunId>,
    /// How many runs more, or fewer, are in which status, in the order of [`RunStatus::ALL`].
    pub(crate) runs: [i64; RunStatus::ALL.len()],
}

/// What a commit means for the rows of workflow versions: few, also for a large commit. Every store writes them with
/// the commit; a row is never removed.
pub(crate) fn workflow_changes<'a>(
    writes: &[RunWrite<'a>],
    schedules: &[ScheduleWrite<'a>],
) -> Vec<WorkflowChange<'a>> {
    let mut places: HashMap<(&Name, &WorkflowKey), usize> = HashMap::new();
    let mut changes: Vec<WorkflowChange<'a>> = Vec::new();
    let mut change = |namespace: &'a Name, workflow: &'a WorkflowKey, used_at: Timestamp| -> usize {
        *places.entry((namespace, workflow)).or_insert_with(|| {
            changes.push(WorkflowChange { namespace, workflow, used_at, last_run: None, runs: Default::default() });
            changes.len() - 1
        })
    };
    let mut moves = Vec::new();
    for write in writes {
        let head = &write.run.head;
        let status = (!write.forget).then(|| head.state.status());
        if write.was != status {
            let created = write.expected.is_none().then_some(head.id);
            moves.push((change(&head.namespace, &head.workflow, head.created_at), write.was, status, created));
        }
    }
    for write in schedules.iter().filter(|write| write.expected.is_none()) {
        let record = &write.schedule.record;
        change(&record.namespace, &record.workflow, record.created_at);
    }
    for (at, was, status, created) in moves {
        let change = &mut changes[at];
        change.last_run = change.last_run.max(created);
        was.into_iter().for_each(|status| change.runs[status as usize] -= 1);
        status.into_iter().for_each(|status| change.runs[status as usize] += 1);
    }
    changes
}
