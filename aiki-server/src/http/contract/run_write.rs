//! Starting, moving and ending runs.

use aiki_core::run::plan::plain::TransitionRun;
use aiki_core::{RunId, ServerClient};
use aiki_wire::contract::run_answer::{CancelledRuns, CreatedRun, RunAfter};
use aiki_wire::contract::run_request::{AtLeastOne, CancelByIds};
use aiki_wire::contract::run_transition::RunTransition;
use aiki_wire::contract::start::CreateV1;
use aiki_wire::contract::unknown::UnknownId;

use crate::http::caller::Role;
use crate::http::refusal::Refusal;
use crate::local_client::LocalClient;

/// So many runs are cancelled in one commit.
const CANCELLED_AT_ONCE: usize = 1_000;

/// Children are the business of those who execute their parents.
pub(super) fn create_needs(asked: &CreateV1) -> Role {
    if asked.parent.is_some() { Role::Worker } else { Role::Client }
}

pub(super) async fn create(client: LocalClient, asked: CreateV1) -> Result<CreatedRun, Refusal> {
    let parent = match &asked.parent {
        Some(parent) => Some((UnknownId::run(&parent.id)?, parent.expected_revision)),
        None => None,
    };
    let id = client.create_plain_run(asked.into_request(), parent).await?;
    Ok(CreatedRun { id })
}

/// What needs the revision is the business of those who execute runs.
pub(super) fn transition_needs(asked: &RunTransition) -> Role {
    if asked.expected_revision.is_some() { Role::Worker } else { Role::Client }
}

pub(super) async fn transition(client: LocalClient, asked: RunTransition) -> Result<RunAfter, Refusal> {
    let run = UnknownId::run(&asked.id)?;
    let to = match asked.state.into_core() {
        Ok(to) => to,
        // A run that is not there goes before whatever else is not there.
        Err(unknown) => {
            client.load(run).await?;
            return Err(unknown.into());
        }
    };
    let moved = client.transition_run(TransitionRun { run, expected_revision: asked.expected_revision, to }).await?;
    Ok(moved.into())
}

/// Ids that lead nowhere are left out.
pub(super) async fn cancel_by_ids(client: LocalClient, asked: CancelByIds) -> Result<CancelledRuns, Refusal> {
    let AtLeastOne(ids) = asked.ids;
    let runs: Vec<RunId> = ids.iter().filter_map(|id| UnknownId::run(id).ok()).collect();
    let mut cancelled_ids = Vec::new();
    for some in runs.chunks(CANCELLED_AT_ONCE) {
        cancelled_ids.extend(client.cancel_runs(some).await?);
    }
    Ok(CancelledRuns { cancelled_ids })
}
