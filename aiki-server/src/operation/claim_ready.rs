//! Claiming whatever is ready.

use std::sync::Arc;

use aiki_core::run::plan;
use aiki_core::server_client::ClaimReady;
use aiki_core::{Name, ServerError};

use super::claim::{ClaimAnswer, claim_one};
use super::{Operation, one_of_many};
use crate::announcer::Announcer;
use crate::lane::Desk;
use crate::storage::{ReadyQuery, StoredRun};

pub(crate) struct ClaimReadyRuns {
    pub(crate) namespace: Name,
    pub(crate) request: ClaimReady,
    /// Who announces ready runs, if anybody does.
    pub(crate) announcer: Option<Arc<Announcer>>,
}

impl Operation for ClaimReadyRuns {
    type Answer = Vec<StoredRun>;

    fn plan(&self, desk: &mut Desk<'_>) -> Result<Self::Answer, ServerError> {
        let ClaimReady { worker, workflows, pools, limit, lease } = &self.request;
        let query = ReadyQuery { namespace: &self.namespace, workflows, pools };
        let (mut claimed, now) = (Vec::new(), desk.now());
        // The oldest come first: what is left to those who listen hides nothing.
        for run in desk.ready(&query, *limit)? {
            let announced = self.announcer.as_ref().is_some_and(|announcer| announcer.has_announced(run));
            if !plan::is_offered(&desk.run(&self.namespace, run)?.head, announced, now) {
                continue;
            }
            let answer = claim_one(desk, &self.namespace, run, worker, *lease);
            if let Some(ClaimAnswer::Granted(run)) = one_of_many(run, answer)? {
                claimed.push(*run);
            }
        }
        Ok(claimed)
    }
}
