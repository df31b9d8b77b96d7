//! What callers may do to a run from outside.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::claim::recover;
use super::signal::go_on;
use super::timer::{end, wake_due_steps};
use crate::failure::ErrorObject;
use crate::hash::InputHash;
use crate::id::TaskId;
use crate::payload::{Payload, present};
use crate::rank::republish_backoff;
use crate::run::head::{ParkedStep, RunHead};
use crate::run::history::{Entry, HistoryEntry};
use crate::run::state::RunState;
use crate::run::status::{QueuedReason, RunStatus, ScheduledReason};
use crate::run::transition::{IllegalTransition, permits};
use crate::time::Timestamp;

/// What an operator may ask of a run besides its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunCommand {
    /// Stop working on it until it is resumed. Only a run that is scheduled, queued or running can be
    /// paused.
    Pause,
    /// Go on with a paused run.
    Resume,
    /// End the sleep that it is in before its time.
    WakeUp,
    /// Send a stalled run back to work.
    Requeue,
}

/// Plans a command. The run is ready at once where it goes on.
///
/// # Errors
/// [`IllegalTransition`] when the run is not where the command is for; nothing is changed then.
pub fn command(
    head: &mut RunHead,
    command: RunCommand,
    now: Timestamp,
    entries: &mut Vec<HistoryEntry>,
) -> Result<(), IllegalTransition> {
    match command {
        RunCommand::Pause => {
            let held = head.lease.is_some();
            strictly(head, RunState::Paused, now, entries)?;
            // Taken from its worker, the run says nothing against itself.
            head.deliveries = head.deliveries.saturating_sub(u32::from(held));
            Ok(())
        }
        RunCommand::Resume => send_back(head, ScheduledReason::Resumption, now, entries),
        RunCommand::Requeue => {
            send_back(head, ScheduledReason::Redelivery, now, entries)?;
            head.deliveries = 0;
            Ok(())
        }
        RunCommand::WakeUp => wake_up(head, now, entries),
    }
}

fn strictly(
    head: &mut RunHead,
    to: RunState,
    now: Timestamp,
    entries: &mut Vec<HistoryEntry>,
) -> Result<(), IllegalTransition> {
    if !permits(&head.state, &to) {
        return Err(IllegalTransition { from: head.state.status(), to: to.status() });
    }
    head.transition(to, now, entries)
}

fn send_back(
    head: &mut RunHead,
    reason: ScheduledReason,
    now: Timestamp,
    entries: &mut Vec<HistoryEntry>,
) -> Result<(), IllegalTransition> {
    strictly(head, RunState::Scheduled { scheduled_at: now, reason }, now, entries)?;
    head.transition(RunState::Queued { reason: reason.into() }, now, entries)?;
    wake_due_steps(head, now, entries);
    Ok(())
}

/// Ends the earliest sleep of a run that waits.
fn wake_up(head: &mut RunHead, now: Timestamp, entries: &mut Vec<HistoryEntry>) -> Result<(), IllegalTransition> {
    let sleeps = head.parked.iter().enumerate().filter_map(|(at, parked)| match parked.step {
        ParkedStep::Sleep { ordinal, .. } => Some((parked.due, at, ordinal)),
        _ => None,
    });
    let Some((_, at, ordinal)) = sleeps.min().filter(|_| head.is_suspended()) else {
        return Err(IllegalTransition { from: head.state.status(), to: RunStatus::Scheduled });
    };
    head.parked.remove(at);
    head.push(now, Entry::SleepCancelled { ordinal }, entries);
    match &head.state {
        RunState::Sleeping { .. } => {
            let reason = ScheduledReason::WakeupEarly;
            head.transition(RunState::Scheduled { scheduled_at: now, reason }, now, entries)?;
            head.transition(RunState::Queued { reason: reason.into() }, now, entries)?;
            wake_due_steps(head, now, entries);
            Ok(())
        }
        _ => go_on(head, QueuedReason::WakeupEarly, now, entries),
    }
}

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
    end(head, RunState::Cancelled { explanation }, now, entries)
}

/// Plans that a ready run waits until another run of its concurrency key is given back.
pub fn hold_back(head: &mut RunHead) {
    head.held_back = true;
}

/// Plans that a run that was held back is ready again.
pub fn let_in(head: &mut RunHead, now: Timestamp) {
    head.held_back = false;
    if let Some(announce) = &mut head.announce {
        let next = now.after(republish_backoff(Duration::ZERO));
        // A changed time is what makes it announced, also within the millisecond of the last announcement.
        announce.next = if next == announce.next { next.after(Duration::from_millis(1)) } else { next };
    }
}

/// Which task an operator gives a result for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum TaskTarget {
    /// One that is under way.
    Existing(TaskId),
    /// One that the handler is going to call with this name and input.
    New {
        /// The task's name.
        name: String,
        /// Its input.
        #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
        input: Option<Payload>,
        /// Hash of the input.
        input_hash: InputHash,
    },
}

/// Why an operator cannot set a task's result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetTaskError {
    /// The run has ended.
    #[error("the run is {0}: the results of its tasks stand")]
    Ended(RunStatus),
    /// The run has no such task.
    #[error("the run has no task {0}")]
    NotFound(TaskId),
    /// The task is not under way.
    #[error("task {0} is not running: it has a result already, or waits for its next attempt")]
    NotRunning(TaskId),
}

/// Plans a result that an operator gives for a task. A worker that holds the run loses it: the next
/// one goes on with the result.
///
/// # Errors
/// [`SetTaskError`], and nothing is changed.
pub fn set_task_result(
    head: &mut RunHead,
    target: &TaskTarget,
    attempts: u64,
    result: &Result<Option<Payload>, ErrorObject>,
    now: Timestamp,
    entries: &mut Vec<HistoryEntry>,
) -> Result<(), SetTaskError> {
    if head.state.is_terminal() {
        return Err(SetTaskError::Ended(head.state.status()));
    }
    let ordinal = match target {
        TaskTarget::Existing(id) => {
            let ordinal = id.ordinal();
            if id.run() != head.id || ordinal >= head.tasks_opened {
                return Err(SetTaskError::NotFound(*id));
            }
            let waits = head.parked.iter().any(|parked| parked.step == ParkedStep::Task(ordinal));
            let Some(at) = head.open_tasks.iter().position(|open| *open == ordinal).filter(|_| !waits) else {
                return Err(SetTaskError::NotRunning(*id));
            };
            head.open_tasks.remove(at);
            head.checkpoints.retain(|checkpoint| checkpoint.task != ordinal);
            head.counts.running = head.counts.running.saturating_sub(1);
            ordinal
        }
        TaskTarget::New { name, input, input_hash } => {
            let ordinal = head.tasks_opened;
            head.tasks_opened += 1;
            let (name, input, input_hash) = (name.clone(), input.clone(), input_hash.clone());
            head.push(now, Entry::TaskSeeded { ordinal, name, input_hash, input }, entries);
            ordinal
        }
    };
    let entry = match result {
        Ok(output) => {
            head.counts.completed += 1;
            Entry::TaskCompleted { ordinal, attempts, output: output.clone() }
        }
        Err(error) => {
            head.counts.failed += 1;
            Entry::TaskFailed { ordinal, attempts, error: error.clone() }
        }
    };
    head.push(now, entry, entries);
    // A plain worker finds the result when it next looks; it is not fenced by the claim.
    if head.lease.is_some() && matches!(head.state, RunState::Running) && !head.plain {
        recover(head, now, entries);
    }
    // It got further.
    head.deliveries = 0;
    Ok(())
}
