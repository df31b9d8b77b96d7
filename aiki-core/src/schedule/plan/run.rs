//! The run of an occurrence.

use crate::id::RunId;
use crate::run::history::{Entry, HistoryEntry};
use crate::run::plan::{self, CreateRun};
use crate::run::{Reference, RunHead, RunState};
use crate::schedule::ScheduleRecord;
use crate::time::Timestamp;

/// Plans the run of an occurrence: queued from the start, at revision 0.
pub fn create_run(
    record: &ScheduleRecord,
    occurrence: Timestamp,
    id: RunId,
    now: Timestamp,
    entries: &mut Vec<HistoryEntry>,
) -> RunHead {
    let request = CreateRun {
        reference: Some(Reference { id: record.run_reference(occurrence), conflict_policy: Default::default() }),
        options: record.options.clone(),
        ..CreateRun::new(record.workflow.clone(), record.input.clone(), record.input_hash.clone())
    };
    let mut head = plan::create(&request, id, &record.namespace, now, entries);
    head.schedule = Some(record.id);
    // A start is scheduled before it is queued; an occurrence is not.
    entries.retain(|entry| !matches!(entry.entry, Entry::Run { state: RunState::Scheduled { .. }, .. }));
    (head.revision, head.transitions, head.last_transition) = (0, 1, 0);
    head.history_len = head.history_len.saturating_sub(1);
    head
}
