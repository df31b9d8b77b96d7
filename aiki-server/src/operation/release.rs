//! Giving claims back.

use aiki_core::run::plan::{self, LeaseDecision};
use aiki_core::server_client::{ClaimRef, ClaimStatus};
use aiki_core::{Name, RunId, ServerError};

use super::Operation;
use super::refresh::status;
use crate::lane::{Desk, Edit};

pub(crate) struct Release {
    pub(crate) namespace: Name,
    pub(crate) claims: Vec<ClaimRef>,
}

impl Operation for Release {
    type Answer = Vec<ClaimStatus>;

    fn touches(&self, runs: &mut Vec<RunId>) {
        runs.extend(self.claims.iter().map(|claim| claim.run));
    }

    fn plan(&self, desk: &mut Desk<'_>) -> Result<Self::Answer, ServerError> {
        let release = |claim: &ClaimRef| {
            let released = desk.edit(&self.namespace, claim.run, |head, now, entries| {
                match plan::release(head, claim.epoch, now, entries) {
                    LeaseDecision::Held => Edit::Changed(LeaseDecision::Held),
                    LeaseDecision::Lost => Edit::Unchanged(LeaseDecision::Lost),
                }
            });
            status(claim.run, released)
        };
        self.claims.iter().map(release).collect()
    }
}
