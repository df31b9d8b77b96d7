//! Run transitions of plain workers and clients.

use std::time::Duration;

use super::claim::hold;
use super::{PlainError, PlainState, TransitionRun, TransitionedRun};
use crate::id::RunId;
use crate::run::head::{Parked, ParkedStep, RunHead};
use crate::run::history::{Entry, HistoryEntry};
use crate::run::plan::timer::{discard_for_retry, end, wake_due_steps};
use crate::run::state::RunState;
use crate::run::status::{QueuedReason, RunStatus, ScheduledReason};
use crate::run::transition::{IllegalTransition, permits};
use crate::run::wait::WaitOn;
use crate::time::Timestamp;

/// What a run that is to wait for a child has to know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Awaited {
    /// Its place among the run's children; the largest number when it is not one of them.
    pub child: u32,
    /// Whether it has ended.
    pub ended: bool,
}

/// Plans a run's transition. `awaited` is given when the run is to wait for a child. `seen_events` is how many
/// events the caller can have seen: when there are more, it does not wait for one but looks again.
/// `lease` is how long a plain claim lasts.
///
/// # Errors
/// [`PlainError`], and nothing is changed.
pub fn transition_run(
    head: &mut RunHead,
    request: &TransitionRun,
    awaited: Option<Awaited>,
    seen_events: Option<u32>,
    lease: Duration,
    now: Timestamp,
    entries: &mut Vec<HistoryEntry>,
) -> Result<TransitionedRun, PlainError> {
    let to = target(&request.to, now);
    if !is_legal(&head.state, &to) {
        return Err(IllegalTransition { from: head.state.status(), to: to.status() }.into());
    }
    if let Some(expected) = request.expected_revision
        && expected != head.revision
    {
        return Err(PlainError::Revision { expected, actual: head.revision });
    }
    let held = head.lease.is_some();
    match &request.to {
        PlainState::Running => {
            let first = matches!(head.state, RunState::Queued { .. });
            head.transition(to, now, entries)?;
            head.deliveries += u32::from(first);
            head.started_at.get_or_insert(now);
            head.plain = true;
            hold(head, lease, now);
            return Ok(stands(head));
        }
        PlainState::Sleeping { name, .. } => {
            let RunState::Sleeping { wakeup_at, .. } = to else { return Ok(stands(head)) };
            let ordinal = head.sleeps_opened;
            head.sleeps_opened += 1;
            head.parked.push(Parked { step: ParkedStep::Sleep { ordinal, name: name.clone() }, due: wakeup_at });
            head.push(now, Entry::SleepOpened { ordinal, name: name.clone(), wakeup_at }, entries);
            head.transition(to, now, entries)?;
        }
        PlainState::AwaitingEvent { event, .. } => {
            let timeout_at = timeout(&to);
            let ordinal = open_wait(head, WaitOn::Event(event.clone()), None, timeout_at, now, entries);
            if seen_events.is_some_and(|seen| seen < head.events) {
                head.push(now, Entry::WaitDropped { ordinal }, entries);
                return look_again(head, ScheduledReason::Event, now, entries);
            }
            park(head, ParkedStep::Event { ordinal, name: event.clone() }, timeout_at);
            head.transition(to, now, entries)?;
        }
        PlainState::AwaitingChild { child: run, awaited: status, .. } => {
            let (timeout_at, Awaited { child, ended }) = (timeout(&to), awaited.unwrap_or(NOBODY));
            let ordinal = open_wait(head, WaitOn::Child(child), Some(*status), timeout_at, now, entries);
            if ended {
                head.push(now, Entry::WaitCompleted { ordinal, event: None }, entries);
                return look_again(head, ScheduledReason::ChildWorkflow, now, entries);
            }
            park(head, ParkedStep::Child { ordinal, child, run: *run }, timeout_at);
            head.transition(to, now, entries)?;
        }
        PlainState::Cancelled { .. } => end(head, to, now, entries)?,
        PlainState::Scheduled { reason, delay } => {
            drop_waits(head, *reason, now, entries);
            head.transition(to, now, entries)?;
            if *reason == ScheduledReason::Redelivery {
                head.deliveries = 0;
            }
            let answer = stands(head);
            if delay.is_zero() {
                head.transition(RunState::Queued { reason: (*reason).into() }, now, entries)?;
                wake_due_steps(head, now, entries);
            }
            return Ok(answer);
        }
        PlainState::Queued { reason } => {
            let reason = *reason;
            head.transition(to, now, entries)?;
            match reason {
                QueuedReason::Retry => discard_for_retry(head),
                QueuedReason::TaskRetry => {}
                // What the caller says is over is over.
                _ => head.parked.iter_mut().for_each(|parked| parked.due = parked.due.min(now)),
            }
            wake_due_steps(head, now, entries);
        }
        PlainState::Paused => {
            head.transition(to, now, entries)?;
            head.deliveries = head.deliveries.saturating_sub(u32::from(held));
            return Ok(stands(head));
        }
        PlainState::Stalled
        | PlainState::AwaitingRetry { .. }
        | PlainState::Completed { .. }
        | PlainState::Failed { .. } => head.transition(to, now, entries)?,
    }
    head.deliveries = 0;
    Ok(stands(head))
}

/// A run that is no child of the one that waits, and of which nothing is known.
const NOBODY: Awaited = Awaited { child: u32::MAX, ended: false };

fn stands(head: &RunHead) -> TransitionedRun {
    TransitionedRun { revision: head.revision, state: head.state.clone(), attempts: head.attempts }
}

/// The contract's table, without what only the server does.
fn is_legal(from: &RunState, to: &RunState) -> bool {
    let own = matches!((from, to), (RunState::Running, RunState::Queued { reason: QueuedReason::Recovery }));
    permits(from, to) && !own
}

fn target(to: &PlainState, now: Timestamp) -> RunState {
    let at = |delay: Duration| now.after(delay);
    match to.clone() {
        PlainState::Scheduled { reason, delay } => RunState::Scheduled { scheduled_at: at(delay), reason },
        PlainState::Queued { reason } => RunState::Queued { reason },
        PlainState::Running => RunState::Running,
        PlainState::Paused => RunState::Paused,
        PlainState::Stalled => RunState::Stalled,
        PlainState::Sleeping { name, duration } => RunState::Sleeping { name, wakeup_at: at(duration) },
        PlainState::AwaitingEvent { event, timeout } => RunState::AwaitingEvent { event, timeout_at: timeout.map(at) },
        PlainState::AwaitingRetry { cause, retry_in } => {
            RunState::AwaitingRetry { next_attempt_at: at(retry_in), cause }
        }
        PlainState::AwaitingChild { child, awaited, timeout } => {
            RunState::AwaitingChild { child, awaited, timeout_at: timeout.map(at) }
        }
        PlainState::Cancelled { explanation } => RunState::Cancelled { explanation },
        PlainState::Completed { output } => RunState::Completed { output },
        PlainState::Failed { cause } => RunState::Failed { cause },
    }
}

fn timeout(state: &RunState) -> Option<Timestamp> {
    match state {
        RunState::AwaitingEvent { timeout_at, .. } | RunState::AwaitingChild { timeout_at, .. } => *timeout_at,
        _ => None,
    }
}

fn open_wait(
    head: &mut RunHead,
    on: WaitOn,
    awaited: Option<RunStatus>,
    timeout_at: Option<Timestamp>,
    now: Timestamp,
    entries: &mut Vec<HistoryEntry>,
) -> u32 {
    let ordinal = head.waits_opened;
    head.waits_opened += 1;
    head.push(now, Entry::WaitOpened { ordinal, on, awaited, timeout_at }, entries);
    ordinal
}

fn park(head: &mut RunHead, step: ParkedStep, timeout_at: Option<Timestamp>) {
    head.parked.push(Parked { step, due: timeout_at.unwrap_or(Timestamp::MAX) });
}

/// What the run was to wait for is there already: it is ready at once. The answer shows it scheduled.
fn look_again(
    head: &mut RunHead,
    reason: ScheduledReason,
    now: Timestamp,
    entries: &mut Vec<HistoryEntry>,
) -> Result<TransitionedRun, PlainError> {
    head.deliveries = 0;
    let state = RunState::Scheduled { scheduled_at: now, reason };
    head.transition(state, now, entries)?;
    let answer = stands(head);
    head.transition(RunState::Queued { reason: reason.into() }, now, entries)?;
    Ok(answer)
}

/// Plans what a repeated event does, by its sender's own id: nothing is kept of it, but a plain worker that waits for
/// one of its name looks again, as the contract has it. Whether anything changed.
pub fn event_again(head: &mut RunHead, name: &str, now: Timestamp, entries: &mut Vec<HistoryEntry>) -> bool {
    if !head.plain || !matches!(&head.state, RunState::AwaitingEvent { event, .. } if event == name) {
        return false;
    }
    drop_waits(head, ScheduledReason::Event, now, entries);
    look_again(head, ScheduledReason::Event, now, entries).is_ok()
}

/// A run that is sent back to work waits no longer. A sleep is cut short; a wait that nothing came of
/// leaves nothing behind.
fn drop_waits(head: &mut RunHead, reason: ScheduledReason, now: Timestamp, entries: &mut Vec<HistoryEntry>) {
    if !head.is_suspended() {
        return;
    }
    let early = reason == ScheduledReason::WakeupEarly;
    // The sleep that the state shows is the earliest.
    let (plain, shown) = (head.plain, head.earliest_parked().map(|parked| parked.step.clone()));
    let gone: Vec<Parked> = head
        .parked
        .extract_if(.., |parked| match parked.step {
            ParkedStep::Sleep { .. } => early && shown.as_ref() == Some(&parked.step),
            ParkedStep::Event { .. } => plain && reason == ScheduledReason::Event,
            ParkedStep::Child { .. } => plain && reason == ScheduledReason::ChildWorkflow,
            ParkedStep::Task(_) => false,
        })
        .collect();
    for parked in gone {
        let entry = match parked.step {
            ParkedStep::Sleep { ordinal, .. } => Entry::SleepCancelled { ordinal },
            ParkedStep::Event { ordinal, .. } | ParkedStep::Child { ordinal, .. } => Entry::WaitDropped { ordinal },
            ParkedStep::Task(_) => continue,
        };
        head.push(now, entry, entries);
    }
}

/// The place of `child` among the children of `parent`, as the child knows it.
pub fn place_of(parent: RunId, child: &RunHead) -> u32 {
    child.listeners.iter().find(|listener| listener.run == parent).map_or(u32::MAX, |listener| listener.child)
}
