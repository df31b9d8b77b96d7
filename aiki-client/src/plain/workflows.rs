//! Workflows, their versions, and how their runs stand.

use std::num::NonZeroU64;

use aiki_core::ServerError;
use aiki_core::listing::{
    MAX_PAGE, SortOrder, StatusCounts, VersionSort, VersionSummary, VersionsPage, VersionsQuery, WorkflowFilter,
    WorkflowSort, WorkflowSummary, WorkflowsPage, WorkflowsQuery,
};
use aiki_wire::contract::common::Order;
use aiki_wire::contract::workflow::{
    self, ListVersions, ListWorkflows, StatsAnswer, StatsOf, VersionField, VersionList, WorkflowField, WorkflowList,
};
use aiki_wire::read::Str1;

use super::Plain;
use crate::http::Repeat;

/// The limit of a page. A server of the contract would cut it without a word.
pub(super) fn page(limit: usize) -> Result<Option<NonZeroU64>, ServerError> {
    match limit {
        1..=MAX_PAGE => Ok(NonZeroU64::new(limit as u64)),
        _ => Err(ServerError::Invalid(format!("a page of {limit}: ask for 1 to {MAX_PAGE} at a time"))),
    }
}

fn order(order: SortOrder) -> Order {
    match order {
        SortOrder::Asc => Order::Asc,
        SortOrder::Desc => Order::Desc,
    }
}

impl Plain {
    pub(super) async fn workflows(&self, query: WorkflowsQuery) -> Result<WorkflowsPage, ServerError> {
        let field = match query.sort.0 {
            WorkflowSort::Name => WorkflowField::Name,
            WorkflowSort::RunCount => WorkflowField::RunCount,
            WorkflowSort::LastRunAt => WorkflowField::LastRunAt,
        };
        let call = ListWorkflows {
            source: query.source,
            limit: page(query.limit)?,
            offset: Some(query.offset as u64),
            // Every name begins with nothing.
            prefix: query.name_prefix.and_then(Str1::new),
            sort: Some(workflow::WorkflowSort { field, order: order(query.sort.1) }),
        };
        let found = self.post::<WorkflowList>("workflow/listV1", &call, Repeat::Safe).await;
        let found = found.map_err(|gave_up| self.http.shared.error(gave_up))?;
        let summary = |found: workflow::WorkflowSummary| WorkflowSummary {
            source: found.source,
            name: found.name,
            run_count: found.run_count,
            last_run_at: found.last_run_at,
        };
        Ok(WorkflowsPage { workflows: found.workflows.into_iter().map(summary).collect(), total: found.total })
    }

    pub(super) async fn versions(&self, query: VersionsQuery) -> Result<VersionsPage, ServerError> {
        let limit = page(query.limit)?;
        let field = match query.sort.0 {
            VersionSort::FirstSeenAt => VersionField::FirstSeenAt,
            VersionSort::RunCount => VersionField::RunCount,
        };
        let Some(name) = Str1::new(query.name.as_str()) else { return Ok(VersionsPage::default()) };
        let call = ListVersions {
            name,
            source: query.source,
            limit,
            offset: Some(query.offset as u64),
            sort: Some(workflow::VersionSort { field, order: order(query.sort.1) }),
        };
        let found = self.post::<VersionList>("workflow/listVersionsV1", &call, Repeat::Safe).await;
        let found = found.map_err(|gave_up| self.http.shared.error(gave_up))?;
        let summary = |found: workflow::VersionSummary| VersionSummary {
            version: found.version_id,
            first_seen_at: found.first_seen_at,
            last_run_at: found.last_run_at,
            run_count: found.run_count,
        };
        Ok(VersionsPage { versions: found.versions.into_iter().map(summary).collect(), total: found.total })
    }

    pub(super) async fn stats(&self, workflow: Option<WorkflowFilter>) -> Result<StatusCounts, ServerError> {
        const PROCEDURE: &str = "workflow/getStatsV1";
        let found = match workflow {
            None => self.ask::<StatsAnswer>(PROCEDURE).await,
            Some(WorkflowFilter { source, name, version }) => {
                let version = version.map(|version| Str1::new(version.as_str()).ok_or(()));
                // Nothing has an empty name.
                let (Some(name), Ok(version)) = (Str1::new(name.as_str()), version.transpose()) else {
                    return Ok(StatusCounts::default());
                };
                self.post::<StatsAnswer>(PROCEDURE, &StatsOf { name, source, version }, Repeat::Safe).await
            }
        };
        let found = found.map_err(|gave_up| self.http.shared.error(gave_up))?;
        Ok(found.stats.runs_by_status.into_iter().collect())
    }
}
