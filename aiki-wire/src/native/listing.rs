//! Lists and counts.

use aiki_core::RunId;
use aiki_core::Timestamp;
use aiki_core::listing::{
    RunFilter, RunPage, RunPageRequest, StatusCounts, VersionsPage, VersionsQuery, WorkflowFilter, WorkflowsPage,
    WorkflowsQuery,
};
use serde::{Deserialize, Serialize};

use super::{RunData, call};

/// Lists runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ListRuns {
    /// Which.
    pub filter: RunFilter,
    /// Which part of the list.
    pub page: RunPageRequest,
}

/// Counts runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CountRuns {
    /// Which.
    pub filter: RunFilter,
}

/// Lists workflows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ListWorkflows {
    /// Which.
    pub query: WorkflowsQuery,
}

/// Lists the versions of a workflow.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ListWorkflowVersions {
    /// Which.
    pub query: VersionsQuery,
}

/// How the runs of a workflow stand, or of the whole namespace.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunStats {
    /// The workflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<WorkflowFilter>,
}

/// A run with its whole history.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExportRun {
    /// The run.
    pub run: RunId,
}

/// The answer to [`ExportRun`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExportedRun {
    /// When, by the server's clock.
    pub exported_at: Timestamp,
    /// The run.
    pub run: RunData,
}

call!(ListRuns, "listRuns" -> RunPage);
call!(CountRuns, "countRuns" -> u64);
call!(ListWorkflows, "listWorkflows" -> WorkflowsPage);
call!(ListWorkflowVersions, "listWorkflowVersions" -> VersionsPage);
call!(RunStats, "runStats" -> StatusCounts);
call!(ExportRun, "exportRun" -> ExportedRun);
