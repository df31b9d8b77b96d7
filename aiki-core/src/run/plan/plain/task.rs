//! Task transitions of plain workers. The run's status does not matter, only its revision.

use super::{PlainError, TaskChange, TransitionTask};
use crate::id::TaskId;
use crate::run::head::{Parked, ParkedStep, RunHead};
use crate::run::history::{Entry, HistoryEntry};
use crate::run::state::TaskState;
use crate::time::Timestamp;

/// A task after a transition.
#[derive(Clone, Debug, PartialEq)]
pub struct TransitionedTask {
    /// The task.
    pub id: TaskId,
    /// Where it stands.
    pub state: TaskState,
}

/// Plans a task's transition.
///
/// # Errors
/// [`PlainError`], and nothing is changed.
pub fn transition_task(
    head: &mut RunHead,
    request: &TransitionTask,
    now: Timestamp,
    entries: &mut Vec<HistoryEntry>,
) -> Result<TransitionedTask, PlainError> {
    if head.revision != request.expected_revision {
        return Err(PlainError::Revision { expected: request.expected_revision, actual: head.revision });
    }
    let (id, entry, state) = match &request.change {
        TaskChange::Create { name, input, input_hash, retry } => {
            let ordinal = head.tasks_opened;
            head.tasks_opened += 1;
            head.open_tasks.push(ordinal);
            head.counts.running += 1;
            let (name, input_hash) = (name.clone(), input_hash.clone());
            let entry = Entry::TaskOpened { ordinal, name, input_hash, input: input.clone(), retry: retry.clone() };
            (head.id.task(ordinal), entry, TaskState::Running { attempts: 1 })
        }
        TaskChange::Retry { id, attempts } => {
            let (ordinal, parked) = open(head, *id)?;
            if parked {
                unpark(head, ordinal);
                head.counts.awaiting_retry = head.counts.awaiting_retry.saturating_sub(1);
                head.counts.running += 1;
            }
            let attempts = *attempts;
            (*id, Entry::TaskRestarted { ordinal, attempts }, TaskState::Running { attempts })
        }
        TaskChange::Complete { id, attempts, output } => {
            let ordinal = close(head, *id)?;
            head.counts.completed += 1;
            let (attempts, output) = (*attempts, output.clone());
            let entry = Entry::TaskCompleted { ordinal, attempts, output: output.clone() };
            (*id, entry, TaskState::Completed { attempts, output })
        }
        TaskChange::Fail { id, attempts, error } => {
            let ordinal = close(head, *id)?;
            head.counts.failed += 1;
            let (attempts, error) = (*attempts, error.clone());
            let entry = Entry::TaskFailed { ordinal, attempts, error: error.clone() };
            (*id, entry, TaskState::Failed { attempts, error })
        }
        TaskChange::Park { id, attempts, error, retry_in } => {
            let ordinal = running(head, *id)?;
            let next_attempt_at = now.after(*retry_in);
            head.parked.push(Parked { step: ParkedStep::Task(ordinal), due: next_attempt_at });
            head.counts.running = head.counts.running.saturating_sub(1);
            head.counts.awaiting_retry += 1;
            // Nobody owns the run until the task is due, but its other tasks may still report.
            head.lease = None;
            let (attempts, error) = (*attempts, error.clone());
            let entry = Entry::TaskParked { ordinal, attempts, error: error.clone(), next_attempt_at };
            (*id, entry, TaskState::AwaitingRetry { attempts, error, next_attempt_at })
        }
    };
    head.push(now, entry, entries);
    head.deliveries = 0;
    Ok(TransitionedTask { id, state })
}

/// The ordinal of a task that has not ended, and whether it waits for its next attempt.
fn open(head: &RunHead, id: TaskId) -> Result<(u32, bool), PlainError> {
    let ordinal = id.ordinal();
    if id.run() != head.id || ordinal >= head.tasks_opened {
        return Err(PlainError::TaskNotFound(id));
    }
    if head.open_tasks.binary_search(&ordinal).is_err() {
        return Err(PlainError::Refused(format!("task {id} has ended: its result stands")));
    }
    Ok((ordinal, head.parked.iter().any(|parked| parked.step == ParkedStep::Task(ordinal))))
}

fn running(head: &RunHead, id: TaskId) -> Result<u32, PlainError> {
    match open(head, id)? {
        (ordinal, false) => Ok(ordinal),
        (_, true) => Err(PlainError::Refused(format!("task {id} waits for its next attempt: start that first"))),
    }
}

fn close(head: &mut RunHead, id: TaskId) -> Result<u32, PlainError> {
    let ordinal = running(head, id)?;
    head.open_tasks.retain(|open| *open != ordinal);
    head.checkpoints.retain(|checkpoint| checkpoint.task != ordinal);
    head.counts.running = head.counts.running.saturating_sub(1);
    Ok(ordinal)
}

fn unpark(head: &mut RunHead, ordinal: u32) {
    head.parked.retain(|parked| parked.step != ParkedStep::Task(ordinal));
}
