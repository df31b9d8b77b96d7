//! Lists and counts.

use aiki_core::ServerError;
use aiki_core::listing::{RunPage, StatusCounts, VersionsPage, WorkflowsPage};
use aiki_wire::native::{self, ExportedRun};

use super::server;
use crate::local_client::LocalClient;

pub(super) async fn runs(client: LocalClient, call: native::ListRuns) -> Result<RunPage, ServerError> {
    server(&client).list_runs(call.filter, call.page).await
}

pub(super) async fn count(client: LocalClient, call: native::CountRuns) -> Result<u64, ServerError> {
    server(&client).count_runs(call.filter).await
}

pub(super) async fn workflows(client: LocalClient, call: native::ListWorkflows) -> Result<WorkflowsPage, ServerError> {
    server(&client).list_workflows(call.query).await
}

pub(super) async fn versions(
    client: LocalClient,
    call: native::ListWorkflowVersions,
) -> Result<VersionsPage, ServerError> {
    server(&client).list_workflow_versions(call.query).await
}

pub(super) async fn stats(client: LocalClient, call: native::RunStats) -> Result<StatusCounts, ServerError> {
    server(&client).run_stats(call.workflow).await
}

pub(super) async fn export(client: LocalClient, call: native::ExportRun) -> Result<ExportedRun, ServerError> {
    let run = super::runs::data(&client, client.load(call.run).await?).await?;
    Ok(ExportedRun { exported_at: client.server.clock.now(), run })
}
