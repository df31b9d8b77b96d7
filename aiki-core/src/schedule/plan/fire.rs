//! What a schedule does when its time has come.

use crate::schedule::{Occurrences, OverlapPolicy, ScheduleRecord};
use crate::time::Timestamp;

/// What becomes of the run of the previous occurrence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Previous {
    /// Nothing.
    Stays,
    /// It is cancelled before the new run is made.
    Cancelled,
}

/// What a schedule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fire {
    /// The occurrences that get a run, ascending.
    pub occurrences: Vec<Timestamp>,
    /// What becomes of the previous run.
    pub previous: Previous,
}

/// The explanation of a run that was cancelled for its successor.
pub const OVERLAP_EXPLANATION: &str = "Schedule overlap policy";

/// When a schedule is due whose occurrences up to `after` are done with.
pub fn next_run_at(occurrences: &dyn Occurrences, after: Timestamp) -> Timestamp {
    occurrences.next(after).unwrap_or(Timestamp::MAX)
}

/// Decides which occurrences have their run at `now`, at most `limit` of them, and moves the schedule on. `None`:
/// it is not due, and nothing was changed.
///
/// Where more than `limit` are due the schedule stays due: ask again. An occurrence that is exactly `now` is due.
/// `previous_is_open` says whether the run of the last occurrence has not ended.
pub fn fire(
    record: &mut ScheduleRecord,
    occurrences: &dyn Occurrences,
    now: Timestamp,
    previous_is_open: bool,
    limit: usize,
) -> Option<Fire> {
    if record.due_at().is_none_or(|due| due > now) {
        return None;
    }
    let anchor = record.anchor();
    let policy = record.spec.overlap_policy();
    let mut due = match policy {
        OverlapPolicy::Allow => {
            let missed = std::iter::successors(occurrences.next(anchor), |last| occurrences.next(*last));
            missed.take_while(|occurrence| *occurrence <= now).take(limit).collect()
        }
        OverlapPolicy::Skip | OverlapPolicy::CancelPrevious => Vec::from_iter(occurrences.latest(anchor, now)),
    };
    // Time zones change by law, and with them the occurrence that was waited for: then there may be none.
    let done_with = due.last().copied().unwrap_or(now);
    let overlaps = previous_is_open && !due.is_empty();
    if overlaps && policy == OverlapPolicy::Skip {
        due.clear();
    }
    if let Some(last) = due.last() {
        record.last_occurrence = Some(*last);
    }
    record.run_count += due.len() as u64;
    record.next_run_at = next_run_at(occurrences, done_with);
    if policy != OverlapPolicy::Allow && record.next_run_at <= now {
        // A calendar that contradicts itself must not have the server go round in a circle.
        record.next_run_at = next_run_at(occurrences, now);
    }
    record.updated_at = now;
    let cancels = overlaps && policy == OverlapPolicy::CancelPrevious;
    Some(Fire { occurrences: due, previous: if cancels { Previous::Cancelled } else { Previous::Stays } })
}
