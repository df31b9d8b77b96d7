//! Claims of plain workers.

use aiki_wire::contract::common::ById;
use aiki_wire::contract::run_answer::{CreatedRun, ReadyRuns};
use aiki_wire::contract::run_request::{AtLeastOne, ClaimReadyV1};
use aiki_wire::contract::unknown::UnknownId;

use crate::http::refusal::Refusal;
use crate::local_client::LocalClient;

pub(super) async fn claim_ready(client: LocalClient, asked: ClaimReadyV1) -> Result<ReadyRuns, Refusal> {
    let AtLeastOne(workflows) = asked.workflows;
    let workflows = workflows.into_iter().map(Into::into).collect();
    let pools = asked.pools.into_iter().flatten().map(Into::into).collect();
    let limit = usize::try_from(asked.limit.get()).unwrap_or(usize::MAX);
    let runs = client.claim_plain(workflows, pools, limit).await?;
    Ok(ReadyRuns { runs: runs.into_iter().map(|id| CreatedRun { id }).collect() })
}

/// A claim that is not there is not told of: the contract has it so.
pub(super) async fn claim_refresh(client: LocalClient, asked: ById) -> Result<(), Refusal> {
    match UnknownId::run(&asked.id) {
        Ok(run) => Ok(client.refresh_plain(run).await?),
        Err(_) => Ok(()),
    }
}
