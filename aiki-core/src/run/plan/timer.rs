//! What the server does by itself when a run's time has come.

use super::claim::recover;
use crate::rank::republish_backoff;
use crate::run::head::{Parked, ParkedStep, RunHead};
use crate::run::history::{Entry, HistoryEntry};
use crate::run::state::RunState;
use crate::run::status::QueuedReason;
use crate::time::Timestamp;

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
    let reason = match &head.state {
        RunState::Queued { .. } => {
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
    wake_sleeps(head, now, entries);
    Due::Ready
}

/// Ends every parked sleep whose time has come; parked tasks stay until their worker restarts them.
fn wake_sleeps(head: &mut RunHead, now: Timestamp, entries: &mut Vec<HistoryEntry>) {
    let mut over: Vec<Parked> = head
        .parked
        .extract_if(.., |parked| parked.due <= now && matches!(parked.step, ParkedStep::Sleep { .. }))
        .collect();
    over.sort_by_key(|parked| parked.due);
    for parked in over {
        if let ParkedStep::Sleep { ordinal, .. } = parked.step {
            head.settled += 1;
            entries.push(HistoryEntry { at: now, entry: Entry::SleepCompleted { ordinal } });
        }
    }
}

/// A new attempt of the run gives up every task that did not complete.
fn discard_for_retry(head: &mut RunHead) {
    let counts = &mut head.counts;
    counts.discarded += counts.running + counts.awaiting_retry + counts.failed;
    (counts.running, counts.awaiting_retry, counts.failed) = (0, 0, 0);
    head.open_tasks.clear();
    head.parked.retain(|parked| matches!(parked.step, ParkedStep::Sleep { .. }));
}
