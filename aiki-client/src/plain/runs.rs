//! Lists of runs.
//!
//! The contract lists by offset, in the order of the ids, and knows no bounds of them. A place in the list is found
//! by halving: a page from behind a run, or of a time, takes a request for every doubling of the list besides its own.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use aiki_core::listing::{MAX_PAGE, RunFilter, RunOrder, RunPage, RunPageRequest, RunSummary, WorkflowFilter};
use aiki_core::name::{Source, WorkflowKey};
use aiki_core::run::{TaskCounts, TaskStatus};
use aiki_core::system::cancel_children_key;
use aiki_core::{RunId, ServerError};
use aiki_wire::contract::common::{Order, Sort};
use aiki_wire::contract::run_answer::{self, ChildList, RunList};
use aiki_wire::contract::run_request::{ListRuns, RunFilters, WorkflowFilter as WorkflowOf};
use aiki_wire::contract::workflow::{ListWorkflows, WorkflowList};
use aiki_wire::read::Str1;

use super::Plain;
use super::calls::Children;
use super::window::Window;
use super::workflows::page;
use crate::http::Repeat;

/// So often a list is read again that moved while it was read.
const TRIES: usize = 5;
/// So many workflows are asked for a reference id when none is named.
const WORKFLOWS: u64 = 10_000;

impl Plain {
    pub(super) async fn runs(&self, filter: RunFilter, asked: RunPageRequest) -> Result<RunPage, ServerError> {
        page(asked.limit)?;
        let Some(window) = Window::of(&filter, asked) else { return Ok(RunPage::default()) };
        let most = asked.limit + 1;
        let mut runs = match self.gathered(&filter, &window, asked.offset.saturating_add(most)).await? {
            Some(runs) => runs.into_iter().skip(asked.offset).take(most).collect(),
            None => self.listed(&filter, &window, asked.offset, most).await?,
        };
        let more = runs.len() > asked.limit;
        runs.truncate(asked.limit);
        let next = runs.last().map(|run| run.id).filter(|_| more);
        Ok(RunPage { runs, next })
    }

    pub(super) async fn count(&self, filter: RunFilter) -> Result<u64, ServerError> {
        let Some(window) = Window::of(&filter, RunPageRequest::default()) else { return Ok(0) };
        if let Some(runs) = self.gathered(&filter, &window, usize::MAX).await? {
            return Ok(runs.len() as u64);
        }
        let Some(filters) = filters(&filter) else { return Ok(0) };
        let total = self.page(&filters, window.order, 0, 1).await?.total;
        let before = match window.is_bounded_in_front() {
            true => self.place(&filters, window.order, total, |run| window.is_before(run)).await?,
            false => 0,
        };
        let until = match window.is_bounded_behind() {
            true => self.place(&filters, window.order, total, |run| !window.is_behind(run)).await?,
            false => total,
        };
        Ok(until.saturating_sub(before))
    }

    /// The run of a workflow version with this reference id.
    pub(super) async fn run_under(&self, workflow: &WorkflowKey, id: &str) -> Result<Option<RunId>, ServerError> {
        let workflow = Some(workflow.clone().into());
        let filter = RunFilter { workflow, reference_id: Some(id.to_owned()), ..RunFilter::default() };
        let Some(filters) = filters(&filter) else { return Ok(None) };
        let found = self.page(&filters, RunOrder::NewestFirst, 0, 1).await?;
        Ok(found.runs.first().map(|run| run.id))
    }

    /// Runs that the contract's list does not find by itself; `None` when it does. At most `most`, those that come
    /// first.
    async fn gathered(
        &self,
        filter: &RunFilter,
        window: &Window,
        most: usize,
    ) -> Result<Option<Vec<RunSummary>>, ServerError> {
        match (filter.parent, &filter.reference_id, &filter.workflow) {
            (Some(parent), _, _) => self.children(parent, filter, window, most).await.map(Some),
            (None, Some(_), None) => self.referred(filter, window).await.map(Some),
            _ => Ok(None),
        }
    }

    /// Children are listed by their ids; each is then looked at.
    async fn children(
        &self,
        parent: RunId,
        filter: &RunFilter,
        window: &Window,
        most: usize,
    ) -> Result<Vec<RunSummary>, ServerError> {
        let call = Children { id: parent, child_run_status: filter.statuses.clone() };
        let list: ChildList = self.about(parent, "workflowRun/listChildRunsV1", &call, Repeat::Safe).await?;
        let mut children: Vec<_> = list.runs.into_iter().filter(|child| window.has(child.id)).collect();
        children.sort_by_key(|child| child.id);
        if window.order == RunOrder::NewestFirst {
            children.reverse();
        }
        let mut runs = Vec::new();
        for child in children {
            if runs.len() >= most {
                break;
            }
            if filter.id.is_some_and(|id| id != child.id) {
                continue;
            }
            // A reference id alone cannot be asked for.
            let asked = RunFilter { id: Some(child.id), reference_id: None, parent: None, ..filter.clone() };
            let Some(asked) = filters(&asked) else { break };
            let found = self.page(&asked, window.order, 0, 1).await?.runs.into_iter().next();
            let fits =
                |run: &run_answer::RunSummary| filter.reference_id.is_none() || filter.reference_id == run.reference_id;
            if let Some(run) = found.filter(fits) {
                let pool = child.options.and_then(|options| options.pool);
                runs.push(RunSummary { pool, ..summary(run, filter) });
            }
        }
        Ok(runs)
    }

    /// A reference id belongs to a workflow: every one is asked. There is a run for each version at most.
    async fn referred(&self, filter: &RunFilter, window: &Window) -> Result<Vec<RunSummary>, ServerError> {
        let mut runs = Vec::new();
        let mut seen = 0;
        loop {
            let call = ListWorkflows {
                source: Source::User,
                limit: NonZeroU64::new(MAX_PAGE as u64),
                offset: Some(seen),
                prefix: None,
                sort: None,
            };
            let page = self.post::<WorkflowList>("workflow/listV1", &call, Repeat::Safe).await;
            let page = page.map_err(|gave_up| self.http.shared.error(gave_up))?;
            for workflow in &page.workflows {
                let of = WorkflowFilter::named(workflow.name.clone());
                let asked = RunFilter { workflow: Some(of), ..filter.clone() };
                runs.extend(self.listed(&asked, window, 0, usize::MAX).await?);
            }
            seen += page.workflows.len() as u64;
            if page.workflows.is_empty() || seen >= page.total {
                break;
            }
            if seen >= WORKFLOWS {
                let text = format!("more than {WORKFLOWS} workflows: say of which one the reference id is");
                return Err(ServerError::Invalid(text));
            }
        }
        runs.sort_by_key(|run| run.id);
        if window.order == RunOrder::NewestFirst {
            runs.reverse();
        }
        Ok(runs)
    }

    /// Runs of the contract's list that lie in the window, without the first ones.
    async fn listed(
        &self,
        filter: &RunFilter,
        window: &Window,
        skip: usize,
        most: usize,
    ) -> Result<Vec<RunSummary>, ServerError> {
        let Some(filters) = filters(filter) else { return Ok(Vec::new()) };
        for _ in 0..TRIES {
            if let Some(runs) = self.read(&filters, window, skip, most).await? {
                return Ok(runs.into_iter().map(|run| summary(run, filter)).collect());
            }
        }
        Err(ServerError::Unavailable("the list moves faster than it can be read: ask again".into()))
    }

    /// `None` when the list moved, so that runs may have been missed.
    async fn read(
        &self,
        filters: &RunFilters,
        window: &Window,
        skip: usize,
        most: usize,
    ) -> Result<Option<Vec<run_answer::RunSummary>>, ServerError> {
        let mut offset = skip as u64;
        // With what lies directly before the window, it is known to begin behind that.
        let mut probe = false;
        if window.is_bounded_in_front() {
            let total = self.page(filters, window.order, 0, 1).await?.total;
            let begins = self.place(filters, window.order, total, |run| window.is_before(run)).await?;
            probe = begins > 0 && skip == 0;
            offset = offset.saturating_add(begins) - u64::from(probe);
        }
        let mut runs: Vec<run_answer::RunSummary> = Vec::new();
        loop {
            let limit = most.saturating_sub(runs.len()).saturating_add(usize::from(probe)).min(MAX_PAGE);
            let page = self.page(filters, window.order, offset, limit).await?;
            offset += page.runs.len() as u64;
            let last = page.runs.is_empty() || offset >= page.total;
            for run in page.runs {
                if std::mem::take(&mut probe) && !window.is_before(run.id) {
                    return Ok(None);
                }
                if window.is_behind(run.id) {
                    return Ok(Some(runs));
                }
                // A list that grew in front repeats what was read.
                let repeated = runs.last().is_some_and(|last| !window.follows(run.id, last.id));
                if !window.is_before(run.id) && !repeated {
                    runs.push(run);
                }
            }
            if last || runs.len() >= most {
                return Ok(Some(runs));
            }
        }
    }

    /// How many runs at the beginning of the list are so.
    async fn place(
        &self,
        filters: &RunFilters,
        order: RunOrder,
        total: u64,
        is_so: impl Fn(RunId) -> bool + Send + Sync,
    ) -> Result<u64, ServerError> {
        let (mut low, mut high) = (0, total);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.page(filters, order, middle, 1).await?.runs.first() {
                Some(run) if is_so(run.id) => low = middle + 1,
                _ => high = middle,
            }
        }
        Ok(low)
    }

    async fn page(
        &self,
        filters: &RunFilters,
        order: RunOrder,
        offset: u64,
        limit: usize,
    ) -> Result<RunList, ServerError> {
        let order = match order {
            RunOrder::NewestFirst => Order::Desc,
            RunOrder::OldestFirst => Order::Asc,
        };
        let call = ListRuns {
            limit: NonZeroU64::new(limit as u64),
            offset: Some(offset),
            filters: Some(filters.clone()),
            sort: Some(Sort { order }),
        };
        let found = self.post("workflowRun/listV1", &call, Repeat::Safe).await;
        found.map_err(|gave_up| self.http.shared.error(gave_up))
    }
}

/// What the contract knows of a filter; `None` when nothing can fit.
fn filters(filter: &RunFilter) -> Option<RunFilters> {
    let workflow = match &filter.workflow {
        None => None,
        Some(WorkflowFilter { source, name, version }) => Some(WorkflowOf {
            name: Str1::new(name.as_str())?,
            source: *source,
            version: version.as_ref().map(|version| Str1::new(version.as_str()).ok_or(())).transpose().ok()?,
            reference: filter.reference_id.as_ref().map(|id| Str1::new(id).ok_or(())).transpose().ok()?,
        }),
    };
    Some(RunFilters {
        id: filter.id.and_then(|id| Str1::new(id.to_string())),
        schedule: filter.schedule.and_then(|id| Str1::new(id.to_string())),
        status: Some(filter.statuses.clone()).filter(|statuses| !statuses.is_empty()),
        workflow,
    })
}

/// The contract's list tells less of a run than ours. What the filter says is known of it too.
fn summary(run: run_answer::RunSummary, filter: &RunFilter) -> RunSummary {
    let system = cancel_children_key();
    let source = match &filter.workflow {
        Some(workflow) => workflow.source,
        None if run.name == system.name && run.version_id == system.version => Source::System,
        None => Source::User,
    };
    RunSummary {
        id: run.id,
        workflow: WorkflowKey { source, name: run.name, version: run.version_id },
        status: run.status,
        created_at: run.created_at,
        started_at: None,
        ended_at: None,
        reference_id: run.reference_id,
        schedule: filter.schedule,
        parent: filter.parent,
        attempts: 0,
        tasks: counts(&run.task_counts.unwrap_or_default()),
        pool: None,
        priority: Default::default(),
    }
}

fn counts(counts: &BTreeMap<TaskStatus, u64>) -> TaskCounts {
    let of = |status| counts.get(&status).map_or(0, |count| u32::try_from(*count).unwrap_or(u32::MAX));
    TaskCounts {
        running: of(TaskStatus::Running),
        awaiting_retry: of(TaskStatus::AwaitingRetry),
        completed: of(TaskStatus::Completed),
        failed: of(TaskStatus::Failed),
        discarded: of(TaskStatus::Discarded),
    }
}
