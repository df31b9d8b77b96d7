//! What callers may do to a run from outside.

use crate::run::head::{ParkedStep, RunHead};
use crate::run::history::{Entry, HistoryEntry};
use crate::run::state::RunState;
use crate::run::transition::IllegalTransition;
use crate::time::Timestamp;

/// Plans the cancellation of a run.
///
/// # Errors
/// [`IllegalTransition`] when the run has already ended.
pub fn cancel(
    head: &mut RunHead,
    explanation: Option<String>,
    now: Timestamp,
    entries: &mut Vec<HistoryEntry>,
) -> Result<(), IllegalTransition> {
    let parked = std::mem::take(&mut head.parked);
    if let Err(error) = head.transition(RunState::Cancelled { explanation }, now, entries) {
        head.parked = parked;
        return Err(error);
    }
    for parked in parked {
        if let ParkedStep::Sleep { ordinal, .. } = parked.step {
            head.settled += 1;
            entries.push(HistoryEntry { at: now, entry: Entry::SleepCancelled { ordinal } });
        }
    }
    let counts = &mut head.counts;
    counts.discarded += counts.running + counts.awaiting_retry;
    (counts.running, counts.awaiting_retry) = (0, 0);
    Ok(())
}
