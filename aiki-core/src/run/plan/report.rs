//! Judging a worker's report.

use std::time::Duration;

use super::child::ChildDecision;
use super::signal::look_again;
use super::timer::end;
use crate::failure::ErrorObject;
use crate::id::{ORDINAL_LIMIT, RunId};
use crate::report::{ChildStart, Report, ReportReceipt, Transition};
use crate::run::head::{Checkpoint, LastReport, Parked, ParkedStep, RunHead};
use crate::run::history::{Entry, HistoryEntry};
use crate::run::state::{FailureCause, RunState};
use crate::run::status::{QueuedReason, RunStatus};
use crate::run::transition::IllegalTransition;
use crate::run::wait::WaitOn;
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

/// What a report is judged with besides the run's head.
#[derive(Clone, Copy, Debug)]
pub struct ReportContext<'a> {
    /// What becomes of the children that the report starts, in order.
    pub children: &'a [ChildDecision],
    /// Entries that a history may have.
    pub history_limit: u32,
}

/// Plans a report. A repetition of the last one changes nothing and gets the same answer.
///
/// # Errors
/// [`ReportError`]; the head and the entries are then as they were.
pub fn report(
    head: &mut RunHead,
    report: &Report,
    context: ReportContext<'_>,
    now: Timestamp,
    entries: &mut Vec<HistoryEntry>,
) -> Result<ReportReceipt, ReportError> {
    if head.epoch == report.epoch
        && let Some(last) = &head.last_report
    {
        if last.seq == report.seq {
            let (revision, children) = (last.revision, last.children.clone());
            return Ok(ReportReceipt { revision, children, signals: head.signals });
        }
        if last.seq > report.seq {
            return Err(ReportError::OutOfOrder { last: last.seq, got: report.seq });
        }
    }
    if head.epoch != report.epoch || head.lease.is_none() {
        return Err(ReportError::Lost);
    }
    let before = entries.len();
    let mut writing = Writing { head: head.clone(), opened: Vec::new(), continued: false, report, context, now };
    for transition in &report.transitions {
        if let Err(error) = writing.apply(transition, entries) {
            entries.truncate(before);
            return Err(error);
        }
    }
    let Writing { head: mut draft, opened, continued, .. } = writing;
    // A handler that wants to begin again is about to shorten it, even if it has to look at a signal first.
    let shortens = report.transitions.iter().any(|transition| matches!(transition, Transition::ContinuedAsNew { .. }));
    if draft.history_len > context.history_limit && !draft.state.is_terminal() && !shortens {
        let error = ErrorObject::new(
            HISTORY_LIMIT_EXCEEDED,
            format!(
                "the run's history has {} entries, the limit is {}: let the workflow continue as new before that, \
             or split its work among child runs",
                draft.history_len, context.history_limit,
            ),
        );
        end(&mut draft, RunState::Failed { cause: FailureCause::Own(error) }, now, entries)?;
    }
    draft.last_report = Some(LastReport { seq: report.seq, revision: draft.revision, children: opened });
    draft.deliveries = 0;
    // What a handler that continues as new logs was never logged before. One that has to look at further
    // signals first goes on where it was.
    draft.seen = (!continued).then_some(draft.settled);
    let children = draft.last_report.as_ref().map(|last| last.children.clone()).unwrap_or_default();
    let receipt = ReportReceipt { revision: draft.revision, signals: draft.signals, children };
    *head = draft;
    Ok(receipt)
}

/// The name of the error of a run whose history has become too long.
pub const HISTORY_LIMIT_EXCEEDED: &str = "HistoryLimitExceeded";

/// A report on its way into a copy of the head.
struct Writing<'a> {
    head: RunHead,
    /// The children started so far.
    opened: Vec<Option<RunId>>,
    /// The handler begins again.
    continued: bool,
    report: &'a Report,
    context: ReportContext<'a>,
    now: Timestamp,
}

impl Writing<'_> {
    fn apply(&mut self, transition: &Transition, entries: &mut Vec<HistoryEntry>) -> Result<(), ReportError> {
        let (head, now) = (&mut self.head, self.now);
        if head.lease.is_none() {
            return Err(ReportError::Illegal("something follows the end of the claim".into()));
        }
        let at = |due: Duration| now.after(due.max(Duration::from_millis(1)));
        let entry = match transition {
            Transition::TaskOpened { id, name, input_hash, input, retry } => {
                if *id != head.id.task(head.tasks_opened) {
                    return Err(ReportError::Illegal(format!("task {id} is not the next one")));
                }
                let ordinal = next(&mut head.tasks_opened, "tasks")?;
                head.open_tasks.push(ordinal);
                head.counts.running += 1;
                let (name, input_hash) = (name.clone(), input_hash.clone());
                Entry::TaskOpened { ordinal, name, input_hash, input: input.clone(), retry: retry.clone() }
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
            Transition::TaskProgressed { id, checkpoint } => {
                let task = running(head, *id)?;
                head.checkpoints.retain(|checkpoint| checkpoint.task != task);
                head.checkpoints.push(Checkpoint { task, data: checkpoint.clone() });
                return Ok(());
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
                let ordinal = next(&mut head.sleeps_opened, "sleeps")?;
                let wakeup_at = at(*duration);
                let step = ParkedStep::Sleep { ordinal, name: name.clone() };
                head.parked.push(Parked { step, due: wakeup_at });
                Entry::SleepOpened { ordinal, name: name.clone(), wakeup_at }
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
            Transition::WaitOpened { ordinal, on, run, timeout } => {
                if *ordinal != head.waits_opened {
                    return Err(ReportError::Illegal(format!("wait {ordinal} is not the next one")));
                }
                let ordinal = next(&mut head.waits_opened, "waits")?;
                let step = match on {
                    WaitOn::Event(name) => ParkedStep::Event { ordinal, name: name.clone() },
                    WaitOn::Child(child) => {
                        // A child that was refused has no id, but its end is on record already.
                        let run = run.or_else(|| self.opened_child(*child)).unwrap_or(RunId::from_bits(0));
                        ParkedStep::Child { ordinal, child: *child, run }
                    }
                };
                let timeout_at = timeout.map(at);
                self.head.parked.push(Parked { step, due: timeout_at.unwrap_or(Timestamp::MAX) });
                Entry::WaitOpened { ordinal, on: on.clone(), awaited: None, timeout_at }
            }
            Transition::WaitCompleted { ordinal, event } => {
                unpark(head, |step| step.is_wait(*ordinal))?;
                Entry::WaitCompleted { ordinal: *ordinal, event: *event }
            }
            Transition::WaitTimedOut { ordinal } => {
                unpark(head, |step| step.is_wait(*ordinal))?;
                Entry::WaitTimedOut { ordinal: *ordinal }
            }
            Transition::WaitDropped { ordinal } => {
                unpark(head, |step| step.is_wait(*ordinal))?;
                Entry::WaitDropped { ordinal: *ordinal }
            }
            Transition::ChildOpened { ordinal, start } => return self.open_child(*ordinal, start, entries),
            Transition::ChildCancelled { ordinal, .. } => Entry::ChildCancelled { ordinal: *ordinal },
            Transition::Suspended => {
                suspend(head, now, entries)?;
                if self.report.signals < head.signals {
                    look_again(head, QueuedReason::Event, now, entries)?;
                }
                return Ok(());
            }
            Transition::ContinuedAsNew { input, events } => {
                // Signals that the worker has not seen would be lost: it has to look at them first.
                if self.report.signals == head.signals {
                    head.forget_history();
                    self.continued = true;
                    let entry = Entry::Continued { input: input.clone(), events: events.clone() };
                    head.push(now, entry, entries);
                    // Events that go along count as they did when they came: a history that is full of them
                    // takes no more.
                    head.history_len = head.history_len.saturating_add(events.len() as u32);
                }
                let state = RunState::Queued { reason: QueuedReason::Recovery };
                return Ok(head.transition(state, now, entries)?);
            }
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
        self.head.push(now, entry, entries);
        Ok(())
    }

    /// A child that this report started.
    fn opened_child(&self, child: u32) -> Option<RunId> {
        let first = self.head.children_opened - self.opened.len() as u32;
        self.opened.get(child.checked_sub(first)? as usize).copied().flatten()
    }

    fn open_child(
        &mut self,
        ordinal: u32,
        start: &ChildStart,
        entries: &mut Vec<HistoryEntry>,
    ) -> Result<(), ReportError> {
        let (head, now) = (&mut self.head, self.now);
        if ordinal != head.children_opened {
            return Err(ReportError::Illegal(format!("child {ordinal} is not the next one")));
        }
        let Some(decision) = self.context.children.get(self.opened.len()) else {
            return Err(ReportError::Illegal(format!("nothing was decided about child {ordinal}")));
        };
        next(&mut head.children_opened, "children")?;
        let (run, ended) = match decision {
            ChildDecision::New(run) => (Some(*run), None),
            ChildDecision::Existing { run, ended } => (Some(*run), ended.clone()),
            ChildDecision::Refused(error) => (None, Some(RunState::Failed { cause: FailureCause::Own(error.clone()) })),
        };
        head.open_children += u32::from(matches!(decision, ChildDecision::New(_)));
        self.opened.push(run);
        let reference_id = start.reference.as_ref().map(|reference| reference.id.clone());
        let (workflow, input_hash) = (start.workflow.clone(), start.input_hash.clone());
        head.push(now, Entry::ChildOpened { ordinal, run, workflow, input_hash, reference_id }, entries);
        if let Some(state) = ended {
            head.push(now, Entry::ChildEnded { ordinal, state }, entries);
        }
        Ok(())
    }
}

/// Counts on; the ids that follow from the count have room for so many.
fn next(count: &mut u32, what: &str) -> Result<u32, ReportError> {
    if *count >= ORDINAL_LIMIT {
        return Err(ReportError::Illegal(format!("the run has had {ORDINAL_LIMIT} {what}: no more can be counted")));
    }
    *count += 1;
    Ok(*count - 1)
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
        ParkedStep::Event { name, .. } => {
            let timeout_at = Some(parked.due).filter(|due| *due != Timestamp::MAX);
            let state = RunState::AwaitingEvent { event: name.clone(), timeout_at };
            Ok(head.transition(state, now, entries)?)
        }
        ParkedStep::Child { run, .. } => {
            let timeout_at = Some(parked.due).filter(|due| *due != Timestamp::MAX);
            let state = RunState::AwaitingChild { child: *run, awaited: RunStatus::Completed, timeout_at };
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
    head.checkpoints.retain(|checkpoint| checkpoint.task != ordinal);
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
