//! Claiming a run, keeping the claim and giving it back.

use std::time::Duration;

use crate::name::Name;
use crate::run::head::{Lease, RunHead};
use crate::run::history::HistoryEntry;
use crate::run::state::RunState;
use crate::run::status::QueuedReason;
use crate::time::Timestamp;

/// A run that was claimed so often without progress is not given to another worker: it is stalled
/// until an operator sends it back to work.
pub const POISON_LIMIT: u32 = 5;
/// How long an announcement has a ready run to itself, before whoever asks for any ready run gets it.
const HEAD_START: Duration = Duration::from_secs(1);

/// Whether a ready run is given to a worker that asks for whatever is ready. One that was not announced
/// is given at once: nobody else will hear of it. One that was `announced` is left for a second to those
/// who listen; then it is given as well, so that a transport that is away starves nobody.
pub fn is_offered(head: &RunHead, announced: bool, now: Timestamp) -> bool {
    let Some(announcement) = &head.announce else { return false };
    let since = announcement.ready_since;
    // A clock that was set back must not hold anything up.
    !announced || now < since || now.since(since) >= HEAD_START
}

/// The answer to a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimDecision {
    /// The worker owns the run under the head's new epoch.
    Granted,
    /// A live lease stands elsewhere, or here: come back after this time at the earliest.
    Owned(Duration),
    /// The run needs no delivery now: it has ended, or waits for something that announces it again.
    Done,
}

/// Plans a claim by `worker` for `lease`.
pub fn claim(
    head: &mut RunHead,
    worker: &Name,
    lease: Duration,
    now: Timestamp,
    entries: &mut Vec<HistoryEntry>,
) -> ClaimDecision {
    if let (RunState::Running, Some(current)) = (&head.state, &head.lease) {
        if current.owner == *worker && head.last_report.is_none() {
            // The answer to this worker's claim was lost: nothing was written under it.
            return grant(head, worker, lease, now);
        }
        if current.until > now {
            return ClaimDecision::Owned(current.until.since(now));
        }
        // The lease has lapsed and the timer has not come round yet: recover the run here.
        recover(head, now, entries);
    }
    if let (RunState::Queued { .. }, Some(current)) = (&head.state, &head.lease)
        && current.until > now
    {
        // A plain worker was told of it and has not begun yet.
        return ClaimDecision::Owned(current.until.since(now));
    }
    if head.deliveries >= POISON_LIMIT && matches!(head.state, RunState::Queued { .. }) {
        // It takes its workers down: an operator decides. Other runs go on.
        let stalled = head.transition(RunState::Stalled, now, entries);
        debug_assert!(stalled.is_ok(), "a queued run may stall");
        return ClaimDecision::Done;
    }
    if !matches!(head.state, RunState::Queued { .. }) || head.transition(RunState::Running, now, entries).is_err() {
        return ClaimDecision::Done;
    }
    head.deliveries += 1;
    grant(head, worker, lease, now)
}

fn grant(head: &mut RunHead, worker: &Name, lease: Duration, now: Timestamp) -> ClaimDecision {
    head.epoch += 1;
    head.last_report = None;
    head.plain = false;
    head.started_at.get_or_insert(now);
    head.lease = Some(Lease { owner: worker.clone(), since: now, until: now.after(lease), in_process: false });
    ClaimDecision::Granted
}

/// Takes a run from its worker and makes it ready again.
pub(super) fn recover(head: &mut RunHead, now: Timestamp, entries: &mut Vec<HistoryEntry>) {
    let recovered = head.transition(RunState::Queued { reason: QueuedReason::Recovery }, now, entries);
    debug_assert!(recovered.is_ok(), "a running run may be recovered");
}

/// Plans what a server does first of all: a claim by a worker of its own process did not outlive that
/// process. Answers whether the run was taken back.
pub fn orphan(head: &mut RunHead, now: Timestamp, entries: &mut Vec<HistoryEntry>) -> bool {
    let orphaned = head.lease.as_ref().is_some_and(|lease| lease.in_process);
    if orphaned {
        recover(head, now, entries);
    }
    orphaned
}

/// Plans what happens to a run whose worker is gone, as far as the server can tell: it is ready for another one. Answers
/// whether it was that worker's. When the worker lives all the same, its claim has ended like one that lapsed.
pub fn take_back(head: &mut RunHead, worker: &Name, now: Timestamp, entries: &mut Vec<HistoryEntry>) -> bool {
    let held =
        matches!(head.state, RunState::Running) && head.lease.as_ref().is_some_and(|lease| lease.owner == *worker);
    if held {
        recover(head, now, entries);
    }
    held
}

/// Whether a worker's claim stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseDecision {
    /// It stands.
    Held,
    /// It is gone: somebody else owns the run, or it moved on.
    Lost,
}

/// Plans the refresh of the claim made under `epoch`. A lease that has lapsed but that nobody has
/// taken is given again.
pub fn refresh(head: &mut RunHead, epoch: u64, lease: Duration, now: Timestamp) -> LeaseDecision {
    match &mut head.lease {
        Some(current) if head.epoch == epoch => {
            current.until = current.until.max(now.after(lease));
            LeaseDecision::Held
        }
        _ => LeaseDecision::Lost,
    }
}

/// Plans handing back the run that was claimed under `epoch`: it is ready at once for another worker.
pub fn release(head: &mut RunHead, epoch: u64, now: Timestamp, entries: &mut Vec<HistoryEntry>) -> LeaseDecision {
    if head.lease.is_none() || head.epoch != epoch {
        return LeaseDecision::Lost;
    }
    recover(head, now, entries);
    // A clean hand-back says nothing against the run.
    head.deliveries = head.deliveries.saturating_sub(1);
    LeaseDecision::Held
}
