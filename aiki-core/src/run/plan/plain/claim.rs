//! Claims without names and epochs.

use std::time::Duration;

use super::plain_owner;
use crate::run::head::{Lease, RunHead};
use crate::run::history::HistoryEntry;
use crate::run::plan::POISON_LIMIT;
use crate::run::state::RunState;
use crate::time::Timestamp;

/// Plans that a plain worker is told of a ready run: the run stays queued, and nobody else gets it
/// for the time of the lease. Answers whether the run is to be had.
pub fn claim_plainly(head: &mut RunHead, lease: Duration, now: Timestamp, entries: &mut Vec<HistoryEntry>) -> bool {
    if !matches!(head.state, RunState::Queued { .. }) || head.lease.as_ref().is_some_and(|lease| lease.until > now) {
        return false;
    }
    if head.deliveries >= POISON_LIMIT {
        let stalled = head.transition(RunState::Stalled, now, entries);
        debug_assert!(stalled.is_ok(), "a queued run may stall");
        return false;
    }
    hold(head, lease, now);
    true
}

/// Plans the refresh of a plain claim. Answers whether there was one.
pub fn refresh_plainly(head: &mut RunHead, lease: Duration, now: Timestamp) -> bool {
    match &mut head.lease {
        Some(current) if current.owner == plain_owner() => {
            current.until = current.until.max(now.after(lease));
            true
        }
        _ => false,
    }
}

/// Gives the run to plain workers. Whoever held it by an epoch has lost it.
pub(super) fn hold(head: &mut RunHead, lease: Duration, now: Timestamp) {
    let since = head.lease.take().filter(|lease| lease.owner == plain_owner()).map_or(now, |lease| lease.since);
    head.epoch += 1;
    head.last_report = None;
    head.lease = Some(Lease { owner: plain_owner(), since, until: now.after(lease), in_process: false });
}
