//! Claiming runs that were delivered.

use std::collections::HashSet;
use std::time::Duration;

use aiki_core::run::plan::{self, ClaimDecision};
use aiki_core::server_client::ClaimRuns;
use aiki_core::{Name, RunId, ServerError};

use super::{Operation, one_of_many};
use crate::lane::{Desk, Edit, holds_place};
use crate::storage::StoredRun;

/// The answer for one run. The record is folded outside of the lane.
pub(crate) enum ClaimAnswer {
    Granted(Box<StoredRun>),
    Owned(Duration),
    Done,
}

pub(crate) struct Claim {
    pub(crate) namespace: Name,
    pub(crate) request: ClaimRuns,
    /// Whether the worker lives in this process.
    pub(crate) in_process: bool,
}

impl Operation for Claim {
    type Answer = Vec<ClaimAnswer>;

    fn touches(&self, runs: &mut Vec<RunId>) {
        runs.extend_from_slice(&self.request.runs);
    }

    fn plan(&self, desk: &mut Desk<'_>) -> Result<Self::Answer, ServerError> {
        let ClaimRuns { worker, runs, lease } = &self.request;
        let mut named = HashSet::with_capacity(runs.len());
        let mut claim = |run: &RunId| {
            if !named.insert(*run) {
                // Granted again, it would take the claim from its first mention.
                return Ok(ClaimAnswer::Owned(*lease));
            }
            let answer = claim_one(desk, &self.namespace, *run, worker, *lease, self.in_process);
            // A run that cannot be read is neither run nor acknowledged: it is delivered again in a while.
            Ok(one_of_many(*run, answer)?.unwrap_or(ClaimAnswer::Owned(*lease)))
        };
        runs.iter().map(&mut claim).collect()
    }
}

/// Whether the limit of the run's concurrency key is reached: then it waits, and is announced again
/// when another run of the key is given back.
pub(super) fn is_held_back(desk: &mut Desk<'_>, namespace: &Name, run: RunId) -> Result<bool, ServerError> {
    let head = match desk.run(namespace, run) {
        Ok(stored) => &stored.head,
        Err(ServerError::RunNotFound(_)) => return Ok(false),
        Err(error) => return Err(error),
    };
    let (Some(concurrency), true) = (&head.concurrency, head.announce.is_some()) else { return Ok(false) };
    if head.held_back {
        return Ok(true);
    }
    let (key, limit) = (concurrency.key.clone(), concurrency.limit);
    let own = usize::from(holds_place(head));
    if desk.holding(namespace, &key)?.saturating_sub(own) < limit as usize {
        return Ok(false);
    }
    desk.edit(namespace, run, |head, _, _| {
        plan::hold_back(head);
        Edit::Changed(())
    })?;
    Ok(true)
}

/// Claims one run; a run that is not there needs no delivery.
pub(super) fn claim_one(
    desk: &mut Desk<'_>,
    namespace: &Name,
    run: RunId,
    worker: &Name,
    lease: Duration,
    in_process: bool,
) -> Result<ClaimAnswer, ServerError> {
    if is_held_back(desk, namespace, run)? {
        return Ok(ClaimAnswer::Done);
    }
    let decision = desk.edit(namespace, run, |head, now, entries| {
        let decision = plan::claim(head, worker, lease, now, entries);
        if let (ClaimDecision::Granted, Some(lease)) = (decision, &mut head.lease) {
            lease.in_process = in_process;
            // A claim that is granted again has a new number, though it is no transition.
            return Edit::Changed(decision);
        }
        if entries.is_empty() { Edit::Unchanged(decision) } else { Edit::Changed(decision) }
    });
    match decision {
        Ok(ClaimDecision::Granted) => Ok(ClaimAnswer::Granted(Box::new(desk.run(namespace, run)?.clone()))),
        Ok(ClaimDecision::Owned(remaining)) => Ok(ClaimAnswer::Owned(remaining)),
        Ok(ClaimDecision::Done) | Err(ServerError::RunNotFound(_)) => Ok(ClaimAnswer::Done),
        Err(error) => Err(error),
    }
}
