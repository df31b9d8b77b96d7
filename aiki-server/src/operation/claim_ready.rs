//! Claiming whatever is ready.

use std::sync::Arc;

use aiki_core::run::plan;
use aiki_core::server_client::ClaimReady;
use aiki_core::{Name, RunId, ServerError};

use super::claim::{ClaimAnswer, claim_one};
use super::{Operation, one_of_many};
use crate::announcer::Announcer;
use crate::lane::Desk;
use crate::storage::{ReadyQuery, StoredRun};

/// Lists of ready runs that are gone through when some of them turn out to have to wait.
const ROUNDS: usize = 8;

pub(crate) struct ClaimReadyRuns {
    pub(crate) namespace: Name,
    pub(crate) request: ClaimReady,
    /// Whether the worker lives in this process.
    pub(crate) in_process: bool,
    /// Who announces ready runs, if anybody does.
    pub(crate) announcer: Option<Arc<Announcer>>,
}

impl Operation for ClaimReadyRuns {
    type Answer = Vec<StoredRun>;

    fn plan(&self, desk: &mut Desk<'_>) -> Result<Self::Answer, ServerError> {
        let ClaimReady { worker, workflows, pools, limit, lease } = &self.request;
        let query = ReadyQuery { namespace: &self.namespace, workflows, pools };
        take_ready(desk, &query, *limit, self.announcer.as_deref(), |desk, run| {
            match claim_one(desk, &self.namespace, run, worker, *lease, self.in_process)? {
                ClaimAnswer::Granted(run) => Ok(Some(*run)),
                ClaimAnswer::Owned(_) | ClaimAnswer::Done => Ok(None),
            }
        })
    }
}

/// Has `take` claim ready runs until there are `limit` of them, the most urgent and then the oldest first. What
/// was announced is left for a while to those who listen.
pub(super) fn take_ready<T>(
    desk: &mut Desk<'_>,
    query: &ReadyQuery<'_>,
    limit: usize,
    announcer: Option<&Announcer>,
    mut take: impl FnMut(&mut Desk<'_>, RunId) -> Result<Option<T>, ServerError>,
) -> Result<Vec<T>, ServerError> {
    let (mut taken, now) = (Vec::new(), desk.now());
    for _ in 0..ROUNDS {
        let mut passed_over = false;
        // The oldest come first: what is left to those who listen hides nothing.
        for run in desk.ready(query, limit - taken.len())? {
            let announced = announcer.is_some_and(|announcer| announcer.has_announced(run));
            if !plan::is_offered(&desk.run(query.namespace, run)?.head, announced, now) {
                continue;
            }
            let one = take(desk, run);
            match one_of_many(run, one)?.flatten() {
                Some(one) => taken.push(one),
                // Held back, or stalled: it is no longer ready, and the next one takes its place.
                None => passed_over = true,
            }
        }
        if !passed_over || taken.len() >= limit {
            break;
        }
    }
    Ok(taken)
}
