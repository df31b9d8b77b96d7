//! Judging a worker's report.

use std::time::Duration;

use crate::report::{Report, ReportReceipt, Transition};
use crate::run::head::{LastReport, Parked, ParkedStep, RunHead};
use crate::run::history::{Entry, HistoryEntry};
use crate::run::state::RunState;
use crate::run::transition::IllegalTransition;
use crate::time::Timestamp;

/// Why a report was not written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// The claim under which it was made is gone. The worker must stop working on the run.
    #[error("the claim on the run is gone: somebody else owns it now, or it was cancelled or paused")]
    Lost,
    /// A report with a higher number was already written.
    #[error("report {got} comes after report {last}")]
    OutOfOrder {
        /// The number of the last report written.
        last: u64,
        /// The number of this one.
        got: u64,
    },
    /// The report asks for something that the run cannot do.
    #[error("the report cannot be written: {0}")]
    Illegal(String),
}

impl From<IllegalTransition> for ReportError {
    fn from(error: IllegalTransition) -> Self {
        ReportError::Illegal(error.to_string())
    }
}

/// Plans a report. A repetition of the last one changes nothing and gets the same answer.
///
/// # Errors
/// [`ReportError`]; the head and the entries are then as they were.
pub fn report(
    head: &mut RunHead,
    report: &Report,
    now: Timestamp,
    entries: &mut Vec<HistoryEntry>,
) -> Result<ReportReceipt, ReportError> {
    if head.epoch == report.epoch
        && let Some(last) = &head.last_report
    {
        if last.seq == report.seq {
            return Ok(ReportReceipt { revision: last.revision });
        }
        if last.seq > report.seq {
            return Err(ReportError::OutOfOrder { last: last.seq, got: report.seq });
        }
    }
    if head.epoch != report.epoch || head.lease.is_none() {
        return Err(ReportError::Lost);
    }
    let mut draft = head.clone();
    let before = entries.len();
    for transition in &report.transitions {
        if let Err(error) = apply(&mut draft, transition, now, entries) {
            entries.truncate(before);
            return Err(error);
        }
    }
    let receipt = ReportReceipt { revision: draft.revision };
    draft.last_report = Some(LastReport { seq: report.seq, revision: receipt.revision });
    draft.seen = Some(draft.settled);
    draft.deliveries = 0;
    *head = draft;
    Ok(receipt)
}

fn apply(
    head: &mut RunHead,
    transition: &Transition,
    now: Timestamp,
    entries: &mut Vec<HistoryEntry>,
) -> Result<(), ReportError> {
    if head.lease.is_none() {
        return Err(ReportError::Illegal("something follows the end of the claim".into()));
    }
    let at = |due: Duration| now.after(due.max(Duration::from_millis(1)));
    let entry = match transition {
        Transition::TaskOpened { id, name, input_hash, input, retry } => {
            if *id != head.id.task(head.tasks_opened) {
                return Err(ReportError::Illegal(format!("task {id} is not the next one")));
            }
            let ordinal = head.tasks_opened;
            head.tasks_opened += 1;
            head.open_tasks.push(ordinal);
            head.counts.running += 1;
            Entry::TaskOpened {
                ordinal,
                name: name.clone(),
                input_hash: input_hash.clone(),
                input: input.clone(),
                retry: retry.clone(),
            }
        }
        Transition::TaskRestarted { id, attempts } => {
            let ordinal = known(head, *id)?;
            unpark(head, |step| *step == ParkedStep::Task(ordinal))?;
            move_count(&mut head.counts.awaiting_retry, &mut head.counts.running);
            Entry::TaskRestarted { ordinal, attempts: *attempts }
        }
        Transition::TaskParked { id, attempts, error, retry_in } => {
            let ordinal = running(head, *id)?;
            let next_attempt_at = at(*retry_in);
            head.parked.push(Parked { step: ParkedStep::Task(ordinal), due: next_attempt_at });
            move_count(&mut head.counts.running, &mut head.counts.awaiting_retry);
            Entry::TaskParked { ordinal, attempts: *attempts, error: error.clone(), next_attempt_at }
        }
        Transition::TaskCompleted { id, attempts, output } => {
            let ordinal = close(head, *id)?;
            move_count(&mut head.counts.running, &mut head.counts.completed);
            Entry::TaskCompleted { ordinal, attempts: *attempts, output: output.clone() }
        }
        Transition::TaskFailed { id, attempts, error } => {
            let ordinal = close(head, *id)?;
            move_count(&mut head.counts.running, &mut head.counts.failed);
            Entry::TaskFailed { ordinal, attempts: *attempts, error: error.clone() }
        }
        Transition::SleepOpened { ordinal, name, duration } => {
            if *ordinal != head.sleeps_opened {
                return Err(ReportError::Illegal(format!("sleep {ordinal} is not the next one")));
            }
            head.sleeps_opened += 1;
            let wakeup_at = at(*duration);
            let step = ParkedStep::Sleep { ordinal: *ordinal, name: name.clone() };
            head.parked.push(Parked { step, due: wakeup_at });
            Entry::SleepOpened { ordinal: *ordinal, name: name.clone(), wakeup_at }
        }
        Transition::SleepCompleted { ordinal } => {
            unpark(head, |step| step.is_sleep(*ordinal))?;
            Entry::SleepCompleted { ordinal: *ordinal }
        }
        Transition::SleepDropped { ordinal } => {
            unpark(head, |step| step.is_sleep(*ordinal))?;
            Entry::SleepCancelled { ordinal: *ordinal }
        }
        Transition::TimeRead { time } => Entry::TimeRead { time: *time },
        Transition::Suspended => return suspend(head, now, entries),
        Transition::Completed { output } => {
            return Ok(head.transition(RunState::Completed { output: output.clone() }, now, entries)?);
        }
        Transition::Failed { cause } => {
            return Ok(head.transition(RunState::Failed { cause: cause.clone() }, now, entries)?);
        }
        Transition::RetryScheduled { cause, retry_in } => {
            let state = RunState::AwaitingRetry { next_attempt_at: at(*retry_in), cause: cause.clone() };
            return Ok(head.transition(state, now, entries)?);
        }
    };
    if entry.settles() {
        head.settled += 1;
    }
    if entry.is_transition() {
        head.transitions += 1;
    }
    entries.push(HistoryEntry { at: now, entry });
    Ok(())
}

/// A worker that leaves a retry alone which is due by the server's clock, because its own clock is
/// behind, is called again after so long, not at once.
const CLOCK_PATIENCE: Duration = Duration::from_millis(250);

/// The status of a suspended run is that of its earliest parked step. A parked task has no status of
/// its own: the run stays `running` without an owner.
fn suspend(head: &mut RunHead, now: Timestamp, entries: &mut Vec<HistoryEntry>) -> Result<(), ReportError> {
    for parked in &mut head.parked {
        if matches!(parked.step, ParkedStep::Task(_)) && parked.due <= now {
            parked.due = now.after(CLOCK_PATIENCE);
        }
    }
    let Some(parked) = head.earliest_parked() else {
        return Err(ReportError::Illegal("the run is suspended but waits for nothing".into()));
    };
    match &parked.step {
        ParkedStep::Sleep { name, .. } => {
            let state = RunState::Sleeping { name: name.clone(), wakeup_at: parked.due };
            Ok(head.transition(state, now, entries)?)
        }
        ParkedStep::Task(_) => {
            head.lease = None;
            Ok(())
        }
    }
}

fn known(head: &RunHead, id: crate::id::TaskId) -> Result<u32, ReportError> {
    let ordinal = id.ordinal();
    if id.run() == head.id && head.open_tasks.binary_search(&ordinal).is_ok() {
        Ok(ordinal)
    } else {
        Err(ReportError::Illegal(format!("the run has no task {id} that is still open")))
    }
}

/// A task that waits for its next attempt has to begin it before anything else becomes of it.
fn running(head: &RunHead, id: crate::id::TaskId) -> Result<u32, ReportError> {
    let ordinal = known(head, id)?;
    if head.parked.iter().any(|parked| parked.step == ParkedStep::Task(ordinal)) {
        return Err(ReportError::Illegal(format!("task {id} waits for its next attempt")));
    }
    Ok(ordinal)
}

/// The task ends: no later report may end it again.
fn close(head: &mut RunHead, id: crate::id::TaskId) -> Result<u32, ReportError> {
    let ordinal = running(head, id)?;
    head.open_tasks.retain(|open| *open != ordinal);
    Ok(ordinal)
}

fn unpark(head: &mut RunHead, matches: impl Fn(&ParkedStep) -> bool) -> Result<(), ReportError> {
    match head.parked.iter().position(|parked| matches(&parked.step)) {
        Some(at) => {
            head.parked.remove(at);
            Ok(())
        }
        None => Err(ReportError::Illegal("the step that goes on is not waiting".into())),
    }
}

fn move_count(from: &mut u32, to: &mut u32) {
    *from = from.saturating_sub(1);
    *to += 1;
}
