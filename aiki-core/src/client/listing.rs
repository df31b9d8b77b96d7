//! Looking at runs and workflows.

use std::collections::VecDeque;
use std::fmt;

use super::Client;
use crate::id::RunId;
use crate::listing::{
    RunFilter, RunOrder, RunPage, RunPageRequest, RunSummary, StatusCounts, VersionsPage, VersionsQuery,
    WorkflowFilter, WorkflowsPage, WorkflowsQuery,
};
use crate::run::export::RunExport;
use crate::server_client::ServerError;

/// A list of runs, read page by page. Runs that come or go meanwhile neither repeat nor hide others.
///
/// ```no_run
/// # use aiki_core::Client;
/// # use aiki_core::listing::RunFilter;
/// # use aiki_core::run::RunStatus;
/// # async fn example(client: Client) -> Result<(), aiki_core::ServerError> {
/// let mut failed = client.list_runs(RunFilter { statuses: vec![RunStatus::Failed], ..RunFilter::default() });
/// while let Some(run) = failed.next().await? {
///     println!("{} {} after {} attempts", run.id, run.workflow, run.attempts);
/// }
/// # Ok(()) }
/// ```
#[must_use = "a list is read by `next` or `next_page`"]
pub struct RunList {
    client: Client,
    filter: RunFilter,
    request: RunPageRequest,
    read: VecDeque<RunSummary>,
    over: bool,
}

impl RunList {
    /// The order of the list. The newest first unless given.
    pub fn order(mut self, order: RunOrder) -> Self {
        self.request.order = order;
        self
    }

    /// So many runs are asked for at a time, 1 to [`MAX_PAGE`](crate::listing::MAX_PAGE). 50 unless given.
    pub fn page_size(mut self, runs: usize) -> Self {
        self.request.limit = runs;
        self
    }

    /// Goes on behind this run, which need not be there any more.
    pub fn after(mut self, run: RunId) -> Self {
        self.request.after = Some(run);
        self
    }

    /// The next page; `None` when the list is over. Runs that [`next`](Self::next) has fetched and not yet handed
    /// out come first.
    ///
    /// Cancel safety: nothing is lost when the future is dropped; the page is asked for again.
    ///
    /// # Errors
    /// [`ServerError`]; the next call asks again.
    pub async fn next_page(&mut self) -> Result<Option<RunPage>, ServerError> {
        if !self.read.is_empty() {
            let next = self.request.after.filter(|_| !self.over);
            return Ok(Some(RunPage { runs: self.read.drain(..).collect(), next }));
        }
        if self.over {
            return Ok(None);
        }
        let page = self.client.server().list_runs(self.filter.clone(), self.request).await?;
        self.request.offset = 0;
        match page.next {
            Some(next) => self.request.after = Some(next),
            None => self.over = true,
        }
        Ok(if page.runs.is_empty() && self.over { None } else { Some(page) })
    }

    /// The next run; `None` when the list is over. Cancel-safe.
    ///
    /// # Errors
    /// As [`next_page`](Self::next_page).
    pub async fn next(&mut self) -> Result<Option<RunSummary>, ServerError> {
        loop {
            if let Some(run) = self.read.pop_front() {
                return Ok(Some(run));
            }
            match self.next_page().await? {
                Some(page) => self.read = page.runs.into(),
                None => return Ok(None),
            }
        }
    }

    /// How many runs fit by now.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn count(&self) -> Result<u64, ServerError> {
        self.client.server().count_runs(self.filter.clone()).await
    }
}

impl fmt::Debug for RunList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunList").field("filter", &self.filter).field("request", &self.request).finish_non_exhaustive()
    }
}

impl Client {
    /// The runs that fit, the newest first. Nothing is asked before the list is read.
    pub fn list_runs(&self, filter: RunFilter) -> RunList {
        let request = RunPageRequest::default();
        RunList { client: self.clone(), filter, request, read: VecDeque::new(), over: false }
    }

    /// The workflows that were ever used, with their runs.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn list_workflows(&self, query: WorkflowsQuery) -> Result<WorkflowsPage, ServerError> {
        self.server.list_workflows(query).await
    }

    /// The versions of a workflow that were ever used, with their runs.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn list_workflow_versions(&self, query: VersionsQuery) -> Result<VersionsPage, ServerError> {
        self.server.list_workflow_versions(query).await
    }

    /// How the runs of a workflow stand, or with `None` all of the namespace.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn run_stats(&self, workflow: Option<WorkflowFilter>) -> Result<StatusCounts, ServerError> {
        self.server.run_stats(workflow).await
    }

    /// A run with its whole history: [`RunExport::to_json`] makes one document of it.
    ///
    /// # Errors
    /// [`ServerError::RunNotFound`] when there is no such run.
    pub async fn export(&self, run: RunId) -> Result<RunExport, ServerError> {
        self.server.export_run(run).await
    }
}
