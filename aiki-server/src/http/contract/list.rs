//! Lists of runs and statistics about workflows.

use aiki_core::ServerClient;
use aiki_core::listing::{
    RunFilter, RunOrder, RunPageRequest, RunSummary, SortOrder, VersionSort, VersionsQuery, WorkflowFilter,
    WorkflowSort, WorkflowsQuery,
};
use aiki_core::name::Name;
use aiki_core::run::status::TaskStatus;
use aiki_wire::contract::common::Order;
use aiki_wire::contract::run_answer::{self, RunList};
use aiki_wire::contract::run_request::{ListRuns, RunFilters};
use aiki_wire::contract::unknown::UnknownId;
use aiki_wire::contract::workflow::{
    self, GetStats, ListVersions, ListWorkflows, RunStats, StatsAnswer, VersionField, VersionList, WorkflowField,
    WorkflowList,
};

use super::page::Page;
use crate::http::refusal::Refusal;
use crate::local_client::LocalClient;

pub(super) async fn runs(client: LocalClient, asked: ListRuns) -> Result<RunList, Refusal> {
    let Page { limit, offset } = Page::new(asked.limit, asked.offset);
    let Some(filter) = filter(asked.filters) else { return Ok(RunList { runs: Vec::new(), total: 0 }) };
    let order = match asked.sort.map(|sort| sort.order) {
        Some(Order::Asc) => RunOrder::OldestFirst,
        Some(Order::Desc) | None => RunOrder::NewestFirst,
    };
    let page = client.list_runs(filter.clone(), RunPageRequest { order, after: None, offset, limit }).await?;
    let total = client.count_runs(filter).await?;
    Ok(RunList { runs: page.runs.into_iter().map(summary).collect(), total })
}

/// `None` when nothing can fit.
fn filter(asked: Option<RunFilters>) -> Option<RunFilter> {
    let Some(asked) = asked else { return Some(RunFilter::default()) };
    let mut filter = RunFilter { statuses: asked.status.unwrap_or_default(), ..RunFilter::default() };
    if let Some(id) = asked.id {
        filter.id = Some(UnknownId::run(&id).ok()?);
    }
    if let Some(id) = asked.schedule {
        filter.schedule = Some(UnknownId::schedule(&id).ok()?);
    }
    if let Some(workflow) = asked.workflow {
        filter.reference_id = workflow.reference.map(Into::into);
        let (source, name) = (workflow.source, Name::from(workflow.name));
        filter.workflow = Some(WorkflowFilter { source, name, version: workflow.version.map(Name::from) });
    }
    Some(filter)
}

fn summary(run: RunSummary) -> run_answer::RunSummary {
    let counts = run.tasks;
    let counts = [
        (TaskStatus::Running, counts.running),
        (TaskStatus::AwaitingRetry, counts.awaiting_retry),
        (TaskStatus::Completed, counts.completed),
        (TaskStatus::Failed, counts.failed),
        (TaskStatus::Discarded, counts.discarded),
    ];
    let any = counts.iter().any(|(_, count)| *count > 0);
    run_answer::RunSummary {
        id: run.id,
        name: run.workflow.name,
        version_id: run.workflow.version,
        created_at: run.created_at,
        status: run.status,
        reference_id: run.reference_id,
        task_counts: any.then(|| counts.into_iter().map(|(status, count)| (status, u64::from(count))).collect()),
    }
}

fn order(order: Order) -> SortOrder {
    match order {
        Order::Asc => SortOrder::Asc,
        Order::Desc => SortOrder::Desc,
    }
}

pub(super) async fn workflows(client: LocalClient, asked: ListWorkflows) -> Result<WorkflowList, Refusal> {
    let Page { limit, offset } = Page::new(asked.limit, asked.offset);
    let by = |sort: workflow::WorkflowSort| {
        let field = match sort.field {
            WorkflowField::Name => WorkflowSort::Name,
            WorkflowField::RunCount => WorkflowSort::RunCount,
            WorkflowField::LastRunAt => WorkflowSort::LastRunAt,
        };
        (field, order(sort.order))
    };
    let sort = asked.sort.map(by).unwrap_or_default();
    let (source, name_prefix) = (asked.source, asked.prefix.map(Into::into));
    let page = client.list_workflows(WorkflowsQuery { source, name_prefix, sort, limit, offset }).await?;
    let summary = |found: aiki_core::listing::WorkflowSummary| workflow::WorkflowSummary {
        name: found.name,
        source: found.source,
        run_count: found.run_count,
        last_run_at: found.last_run_at,
    };
    Ok(WorkflowList { workflows: page.workflows.into_iter().map(summary).collect(), total: page.total })
}

pub(super) async fn versions(client: LocalClient, asked: ListVersions) -> Result<VersionList, Refusal> {
    let Page { limit, offset } = Page::new(asked.limit, asked.offset);
    let by = |sort: workflow::VersionSort| {
        let field = match sort.field {
            VersionField::FirstSeenAt => VersionSort::FirstSeenAt,
            VersionField::RunCount => VersionSort::RunCount,
        };
        (field, order(sort.order))
    };
    let sort = asked.sort.map_or((VersionSort::FirstSeenAt, SortOrder::Desc), by);
    let (source, name) = (asked.source, Name::from(asked.name));
    let page = client.list_workflow_versions(VersionsQuery { source, name, sort, limit, offset }).await?;
    let summary = |found: aiki_core::listing::VersionSummary| workflow::VersionSummary {
        version_id: found.version,
        first_seen_at: found.first_seen_at,
        last_run_at: found.last_run_at,
        run_count: found.run_count,
    };
    Ok(VersionList { versions: page.versions.into_iter().map(summary).collect(), total: page.total })
}

pub(super) async fn stats(client: LocalClient, GetStats(of): GetStats) -> Result<StatsAnswer, Refusal> {
    let workflow = of.map(|of| {
        let (source, name) = (of.source, Name::from(of.name));
        WorkflowFilter { source, name, version: of.version.map(Name::from) }
    });
    let counts = client.run_stats(workflow).await?;
    Ok(StatsAnswer { stats: RunStats::of(counts.iter()) })
}
