//! Looking at runs: which ones, in which order, and what is shown of each. What fits a filter is decided here, so
//! that every store gives the same answers.

mod filter;
mod page;
mod summary;
mod workflows;

pub use filter::{RunFilter, WorkflowFilter};
pub use page::{MAX_PAGE, RunOrder, RunPage, RunPageRequest};
pub use summary::RunSummary;
pub use workflows::{
    SortOrder, StatusCounts, VersionSort, VersionSummary, VersionsPage, VersionsQuery, WorkflowSort, WorkflowSummary,
    WorkflowUse, WorkflowsPage, WorkflowsQuery, stats_of, versions_page, workflows_page,
};
