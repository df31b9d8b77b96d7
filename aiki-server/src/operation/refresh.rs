//! Keeping claims.

use std::time::Duration;

use aiki_core::run::plan::{self, LeaseDecision};
use aiki_core::server_client::{ClaimRef, ClaimStatus};
use aiki_core::{Name, RunId, ServerError};

use super::{Operation, one_of_many};
use crate::lane::{Desk, Edit};

pub(crate) struct Refresh {
    pub(crate) namespace: Name,
    pub(crate) claims: Vec<ClaimRef>,
    pub(crate) lease: Duration,
}

impl Operation for Refresh {
    type Answer = Vec<ClaimStatus>;

    fn touches(&self, runs: &mut Vec<RunId>) {
        runs.extend(self.claims.iter().map(|claim| claim.run));
    }

    fn plan(&self, desk: &mut Desk<'_>) -> Result<Self::Answer, ServerError> {
        let refresh = |claim: &ClaimRef| {
            let kept = desk.edit(&self.namespace, claim.run, |head, now, _| {
                match plan::refresh(head, claim.epoch, self.lease, now) {
                    LeaseDecision::Held => Edit::Changed(LeaseDecision::Held),
                    LeaseDecision::Lost => Edit::Unchanged(LeaseDecision::Lost),
                }
            });
            status(claim.run, kept)
        };
        self.claims.iter().map(refresh).collect()
    }
}

/// The claim on a run that is not there, or that cannot be read, is lost.
pub(super) fn status(run: RunId, decision: Result<LeaseDecision, ServerError>) -> Result<ClaimStatus, ServerError> {
    match decision {
        Err(ServerError::RunNotFound(_)) => Ok(ClaimStatus::Lost),
        decision => Ok(match one_of_many(run, decision)? {
            Some(LeaseDecision::Held) => ClaimStatus::Held,
            Some(LeaseDecision::Lost) | None => ClaimStatus::Lost,
        }),
    }
}
