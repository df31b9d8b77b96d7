//! Claiming whatever is ready.

use aiki_core::server_client::ClaimReady;
use aiki_core::{Name, ServerError};

use super::claim::{ClaimAnswer, claim_one};
use super::{Operation, one_of_many};
use crate::lane::Desk;
use crate::storage::{ReadyQuery, StoredRun};

pub(crate) struct ClaimReadyRuns {
    pub(crate) namespace: Name,
    pub(crate) request: ClaimReady,
}

impl Operation for ClaimReadyRuns {
    type Answer = Vec<StoredRun>;

    fn plan(&self, desk: &mut Desk<'_>) -> Result<Self::Answer, ServerError> {
        let ClaimReady { worker, workflows, pools, limit, lease } = &self.request;
        let query = ReadyQuery { namespace: &self.namespace, workflows, pools };
        let mut claimed = Vec::new();
        for run in desk.ready(&query, *limit)? {
            let answer = claim_one(desk, &self.namespace, run, worker, *lease);
            if let Some(ClaimAnswer::Granted(run)) = one_of_many(run, answer)? {
                claimed.push(*run);
            }
        }
        Ok(claimed)
    }
}
