//! Creating a run.

use std::time::Duration;

use aiki_core::run::plan::{self, CreateRun, ReferenceDecision};
use aiki_core::server_client::CreatedRun;
use aiki_core::{Name, Payload, RunId, ServerError, Timestamp};

use super::Operation;
use crate::lane::Desk;
use crate::storage::ReferenceKey;

/// How far the time of a proposed id may be behind the server's,
const PROPOSAL_AGE: Duration = Duration::from_secs(5);
/// and how far ahead of it.
const PROPOSAL_LEAD: Duration = Duration::from_secs(1);

/// What became of a start.
pub(crate) enum Creation {
    /// The run is there.
    Made(CreatedRun),
    /// Nothing was made: the proposed id is not of this time, which is answered.
    Stale(Timestamp),
}

pub(crate) struct Create {
    pub(crate) namespace: Name,
    pub(crate) request: CreateRun,
    /// The id that the caller proposes, so that asking again makes no second run.
    pub(crate) id: Option<RunId>,
}

impl Create {
    fn key(&self) -> Option<ReferenceKey> {
        let reference_id = self.request.reference.as_ref()?.id.clone();
        let (namespace, workflow) = (self.namespace.clone(), self.request.workflow.clone());
        Some(ReferenceKey { namespace, workflow, reference_id })
    }
}

impl Operation for Create {
    type Answer = Creation;

    fn touches(&self, runs: &mut Vec<RunId>) {
        runs.extend(self.id);
    }

    fn size(&self) -> usize {
        self.request.input.as_ref().map_or(0, |input: &Payload| input.as_str().len())
    }

    fn references(&self, keys: &mut Vec<ReferenceKey>) {
        keys.extend(self.key());
    }

    fn plan(&self, desk: &mut Desk<'_>) -> Result<Creation, ServerError> {
        if let Some(key) = self.key() {
            if let Some(run) = desk.by_reference(&key)? {
                let existing = desk.run(&self.namespace, run)?;
                return match plan::judge_reference(&existing.head, &self.request) {
                    ReferenceDecision::Existing => {
                        Ok(Creation::Made(CreatedRun { id: run, existed: self.id != Some(run) }))
                    }
                    ReferenceDecision::Conflict => {
                        Err(ServerError::ReferenceConflict { reference_id: key.reference_id, run })
                    }
                };
            }
        }
        let mut entries = Vec::with_capacity(3);
        let id = match self.id {
            Some(id) if desk.is_taken(id)? => return self.again(desk, id).map(Creation::Made),
            Some(id) if !id.is_whole_run() => {
                return Err(ServerError::Invalid(format!("the id {id} is none of a run: its last 24 bits must be 0")));
            }
            // Ids tell the age of runs: a caller's clock that is wrong must not decide about it.
            Some(id) if !is_current(id, desk.now()) => return Ok(Creation::Stale(desk.now())),
            Some(id) => id,
            None => desk.next_id(),
        };
        let head = plan::create(&self.request, id, &self.namespace, desk.now(), &mut entries);
        desk.create(head, &entries);
        Ok(Creation::Made(CreatedRun { id, existed: false }))
    }
}

fn is_current(id: RunId, now: Timestamp) -> bool {
    let made = id.created_at();
    now.since(made) <= PROPOSAL_AGE && made.since(now) <= PROPOSAL_LEAD
}

impl Create {
    /// The run with the proposed id is there: it is the answer when it was made by this request.
    fn again(&self, desk: &mut Desk<'_>, id: RunId) -> Result<CreatedRun, ServerError> {
        match desk.run(&self.namespace, id) {
            Ok(run) if run.head.workflow == self.request.workflow && run.head.input_hash == self.request.input_hash => {
                Ok(CreatedRun { id, existed: false })
            }
            Ok(_) | Err(ServerError::RunNotFound(_)) => {
                Err(ServerError::Invalid(format!("the id {id} belongs to another run: propose a new one")))
            }
            Err(error) => Err(error),
        }
    }
}
