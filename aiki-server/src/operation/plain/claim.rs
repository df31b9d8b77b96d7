//! Claims without names and epochs.

use std::sync::Arc;
use std::time::Duration;

use aiki_core::name::WorkflowKey;
use aiki_core::run::plan::plain;
use aiki_core::{Name, RunId, ServerError};

use crate::announcer::Announcer;
use crate::lane::{Desk, Edit};
use crate::operation::Operation;
use crate::operation::claim::is_held_back;
use crate::operation::claim_ready::take_ready;
use crate::storage::ReadyQuery;

/// Tells plain workers of ready runs.
pub(crate) struct ClaimPlainly {
    pub(crate) namespace: Name,
    pub(crate) workflows: Vec<WorkflowKey>,
    pub(crate) pools: Vec<Name>,
    pub(crate) limit: usize,
    pub(crate) lease: Duration,
    /// Who announces ready runs, if anybody does.
    pub(crate) announcer: Option<Arc<Announcer>>,
}

impl Operation for ClaimPlainly {
    type Answer = Vec<RunId>;

    fn plan(&self, desk: &mut Desk<'_>) -> Result<Vec<RunId>, ServerError> {
        let query = ReadyQuery { namespace: &self.namespace, workflows: &self.workflows, pools: &self.pools };
        take_ready(desk, &query, self.limit, self.announcer.as_deref(), |desk, run| {
            if is_held_back(desk, &self.namespace, run)? {
                return Ok(None);
            }
            desk.edit(&self.namespace, run, |head, now, entries| {
                match plain::claim_plainly(head, self.lease, now, entries) {
                    true => Edit::Changed(Some(run)),
                    false if entries.is_empty() => Edit::Unchanged(None),
                    false => Edit::Changed(None),
                }
            })
        })
    }
}

/// Keeps a plain claim.
pub(crate) struct RefreshPlainly {
    pub(crate) namespace: Name,
    pub(crate) run: RunId,
    pub(crate) lease: Duration,
}

impl Operation for RefreshPlainly {
    type Answer = ();

    fn touches(&self, runs: &mut Vec<RunId>) {
        runs.push(self.run);
    }

    fn plan(&self, desk: &mut Desk<'_>) -> Result<(), ServerError> {
        let refreshed =
            desk.edit(&self.namespace, self.run, |head, now, _| match plain::refresh_plainly(head, self.lease, now) {
                true => Edit::Changed(()),
                false => Edit::Unchanged(()),
            });
        match refreshed {
            Err(ServerError::RunNotFound(_)) => Ok(()),
            refreshed => refreshed,
        }
    }
}
