//! What reaches a run from outside: events and the ends of its children.

use serde::{Deserialize, Serialize};

use super::timer::wake_due_steps;
use crate::payload::{Payload, present};
use crate::run::head::{ParkedStep, RunHead};
use crate::run::history::{Entry, HistoryEntry, ReceivedEvent};
use crate::run::state::RunState;
use crate::run::status::{QueuedReason, RunStatus, ScheduledReason};
use crate::run::transition::IllegalTransition;
use crate::time::Timestamp;

/// A request to hand an event to a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventMessage {
    /// The event's name.
    pub name: String,
    /// What it carries.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub data: Option<Payload>,
    /// The sender's own id: a second event of the same name and id is ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference_id: Option<String>,
}

/// Why a run does not take an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventRefusal {
    /// The run has ended.
    #[error("the run is {0}: it takes no more events")]
    Ended(RunStatus),
    /// The run's history is full.
    #[error(
        "the run's history has {len} entries, the limit is {limit}: it takes no more events before it continues as new"
    )]
    HistoryFull {
        /// Entries of the history.
        len: u32,
        /// How many it may have.
        limit: u32,
    },
}

/// Plans the arrival of an event. The run keeps it until somebody waits for it; `late`: even one that
/// has ended.
///
/// # Errors
/// [`EventRefusal`], and nothing is changed.
pub fn receive_event(
    head: &mut RunHead,
    message: &EventMessage,
    history_limit: u32,
    late: bool,
    now: Timestamp,
    entries: &mut Vec<HistoryEntry>,
) -> Result<(), EventRefusal> {
    if head.state.is_terminal() && !late {
        return Err(EventRefusal::Ended(head.state.status()));
    }
    if head.history_len >= history_limit {
        return Err(EventRefusal::HistoryFull { len: head.history_len, limit: history_limit });
    }
    let event = ReceivedEvent {
        name: message.name.clone(),
        data: message.data.clone(),
        reference_id: message.reference_id.clone(),
        received_at: now,
    };
    head.push(now, Entry::EventReceived { event }, entries);
    let waits = |step: &ParkedStep| matches!(step, ParkedStep::Event { name, .. } if *name == message.name);
    let index = head.events.saturating_sub(1);
    end_plain_wait(head, waits, Some(index), now, entries);
    wake(head, QueuedReason::Event, waits, now, entries);
    Ok(())
}

/// Plans what a run is told when the child with this ordinal has ended. `own`: it was started by this
/// run, not found under its reference id.
pub fn child_ended(
    head: &mut RunHead,
    child: u32,
    own: bool,
    state: &RunState,
    now: Timestamp,
    entries: &mut Vec<HistoryEntry>,
) {
    head.open_children = head.open_children.saturating_sub(u32::from(own));
    head.push(now, Entry::ChildEnded { ordinal: child, state: state.clone() }, entries);
    let waits = |step: &ParkedStep| matches!(step, ParkedStep::Child { child: of, .. } if *of == child);
    end_plain_wait(head, waits, None, now, entries);
    wake(head, QueuedReason::ChildWorkflow, waits, now, entries);
}

/// A plain worker does not say that it has seen what it waited for: its wait ends here.
fn end_plain_wait(
    head: &mut RunHead,
    waits: impl Fn(&ParkedStep) -> bool,
    event: Option<u32>,
    now: Timestamp,
    entries: &mut Vec<HistoryEntry>,
) {
    let ends = head.plain && head.is_suspended();
    let Some(parked) = head.parked.iter().find(|parked| ends && waits(&parked.step)) else { return };
    if let ParkedStep::Event { ordinal, .. } | ParkedStep::Child { ordinal, .. } = parked.step {
        head.push(now, Entry::WaitCompleted { ordinal, event }, entries);
    }
}

/// Makes a suspended run ready when one of its waits is for what arrived.
fn wake(
    head: &mut RunHead,
    reason: QueuedReason,
    waits: impl Fn(&ParkedStep) -> bool,
    now: Timestamp,
    entries: &mut Vec<HistoryEntry>,
) {
    if head.is_suspended() && head.parked.iter().any(|parked| waits(&parked.step)) {
        if head.plain {
            head.parked.retain(|parked| !waits(&parked.step));
        }
        let woken = go_on(head, reason, now, entries);
        debug_assert!(woken.is_ok(), "a suspended run may go on");
    }
}

/// Makes a run that waits ready again, by the way that its state has for it.
pub(super) fn go_on(
    head: &mut RunHead,
    reason: QueuedReason,
    now: Timestamp,
    entries: &mut Vec<HistoryEntry>,
) -> Result<(), IllegalTransition> {
    look_again(head, reason, now, entries)?;
    wake_due_steps(head, now, entries);
    Ok(())
}

/// The same for a run whose worker has not seen all signals: what it waits for may have come in time,
/// so that none of its waits ends here.
pub(super) fn look_again(
    head: &mut RunHead,
    reason: QueuedReason,
    now: Timestamp,
    entries: &mut Vec<HistoryEntry>,
) -> Result<(), IllegalTransition> {
    let (scheduled, queued) = match (&head.state, reason) {
        (RunState::AwaitingEvent { .. }, _) => (Some(ScheduledReason::Event), QueuedReason::Event),
        (RunState::AwaitingChild { .. }, _) => (Some(ScheduledReason::ChildWorkflow), QueuedReason::ChildWorkflow),
        (RunState::Running, _) => (None, QueuedReason::TaskRetry),
        (_, reason) => (None, reason),
    };
    if let Some(reason) = scheduled {
        head.transition(RunState::Scheduled { scheduled_at: now, reason }, now, entries)?;
    }
    head.transition(RunState::Queued { reason: queued }, now, entries)
}
