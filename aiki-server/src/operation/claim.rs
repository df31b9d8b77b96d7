//! Claiming runs that were delivered.

use std::time::Duration;

use aiki_core::run::plan::{self, ClaimDecision};
use aiki_core::server_client::ClaimRuns;
use aiki_core::{Name, RunId, ServerError};

use super::Operation;
use crate::lane::{Desk, Edit};
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
}

impl Operation for Claim {
    type Answer = Vec<ClaimAnswer>;

    fn touches(&self, runs: &mut Vec<RunId>) {
        runs.extend_from_slice(&self.request.runs);
    }

    fn plan(&self, desk: &mut Desk<'_>) -> Result<Self::Answer, ServerError> {
        let ClaimRuns { worker, runs, lease } = &self.request;
        runs.iter().map(|run| claim_one(desk, &self.namespace, *run, worker, *lease)).collect()
    }
}

/// Claims one run; a run that is not there needs no delivery.
pub(super) fn claim_one(
    desk: &mut Desk<'_>,
    namespace: &Name,
    run: RunId,
    worker: &Name,
    lease: Duration,
) -> Result<ClaimAnswer, ServerError> {
    let decision = desk.edit(namespace, run, |head, now, entries| {
        let decision = plan::claim(head, worker, lease, now, entries);
        if let (ClaimDecision::Granted, Some(lease)) = (decision, &mut head.lease) {
            // So far all workers live in this process.
            lease.in_process = true;
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
