//! What the server does by itself when a run's time has come.

use super::claim::recover;
use crate::failure::ErrorObject;
use crate::rank::republish_backoff;
use crate::run::head::{Parked, ParkedStep, RunHead};
use crate::run::history::{Entry, HistoryEntry};
use crate::run::state::{FailureCause, RunState};
use crate::run::status::QueuedReason;
use crate::run::transition::IllegalTransition;
use crate::time::Timestamp;

/// The name of the error of a run that took longer than it was given.
pub const DEADLINE_EXCEEDED: &str = "DeadlineExceeded";

/// What became of a run whose time had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// The run is ready: announce it.
    Ready,
    /// The run moved on and waits for something else.
    Moved,
    /// It was not due after all.
    NotYet,
}

/// Plans what happens to a run at `now`.
pub fn due(head: &mut RunHead, now: Timestamp, entries: &mut Vec<HistoryEntry>) -> Due {
    if head.due_at().is_none_or(|due| due > now) {
        return Due::NotYet;
    }
    if head.deadline.is_some_and(|deadline| deadline <= now) {
        let error = ErrorObject::new(DEADLINE_EXCEEDED, "the run did not end before its deadline");
        let failed = end(head, RunState::Failed { cause: FailureCause::Own(error) }, now, entries);
        return if failed.is_ok() { Due::Moved } else { Due::NotYet };
    }
    let reason = match &head.state {
        RunState::Queued { .. } => {
            // A plain worker that was told of it has not begun.
            head.lease = None;
            // Nobody took it since it was last announced: announce it again, ever more rarely.
            if let Some(announce) = &mut head.announce {
                announce.next = now.after(republish_backoff(now.since(announce.ready_since)));
            }
            return Due::Ready;
        }
        RunState::Running if head.lease.is_some() => {
            recover(head, now, entries);
            return Due::Ready;
        }
        RunState::Scheduled { reason, .. } => (*reason).into(),
        RunState::Running => QueuedReason::TaskRetry,
        RunState::Sleeping { .. } => QueuedReason::Wakeup,
        RunState::AwaitingRetry { .. } => QueuedReason::Retry,
        RunState::AwaitingEvent { .. } => QueuedReason::EventWaitTimeout,
        RunState::AwaitingChild { .. } => QueuedReason::ChildWorkflowWaitTimeout,
        _ => return Due::NotYet,
    };
    let was_retry = reason == QueuedReason::Retry;
    if head.transition(RunState::Queued { reason }, now, entries).is_err() {
        return Due::NotYet;
    }
    if was_retry {
        discard_for_retry(head);
    }
    wake_due_steps(head, now, entries);
    Due::Ready
}

/// Ends every parked sleep and wait whose time has come; parked tasks stay until their worker restarts
/// them.
pub(super) fn wake_due_steps(head: &mut RunHead, now: Timestamp, entries: &mut Vec<HistoryEntry>) {
    let mut over: Vec<Parked> =
        head.parked.extract_if(.., |parked| parked.due <= now && !matches!(parked.step, ParkedStep::Task(_))).collect();
    over.sort_by_key(|parked| parked.due);
    for parked in over {
        let entry = match parked.step {
            ParkedStep::Sleep { ordinal, .. } => Entry::SleepCompleted { ordinal },
            ParkedStep::Event { ordinal, .. } | ParkedStep::Child { ordinal, .. } => Entry::WaitTimedOut { ordinal },
            ParkedStep::Task(_) => continue,
        };
        head.push(now, entry, entries);
    }
}

/// Ends a run without its worker: its sleeps are cut short.
pub(super) fn end(
    head: &mut RunHead,
    state: RunState,
    now: Timestamp,
    entries: &mut Vec<HistoryEntry>,
) -> Result<(), IllegalTransition> {
    let parked = std::mem::take(&mut head.parked);
    if let Err(error) = head.transition(state, now, entries) {
        head.parked = parked;
        return Err(error);
    }
    for parked in parked {
        if let ParkedStep::Sleep { ordinal, .. } = parked.step {
            head.push(now, Entry::SleepCancelled { ordinal }, entries);
        }
    }
    Ok(())
}

/// A new attempt of the run gives up every task that did not complete, and every wait that lasts.
pub(super) fn discard_for_retry(head: &mut RunHead) {
    head.discard_tasks(true);
    head.open_tasks.clear();
    head.checkpoints.clear();
    head.parked.retain(|parked| matches!(parked.step, ParkedStep::Sleep { .. }));
}
