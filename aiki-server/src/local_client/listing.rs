//! Looking at runs and workflows, beside the lane.

use aiki_core::listing::{
    RunFilter, RunPage, RunPageRequest, RunSummary, StatusCounts, VersionsPage, VersionsQuery, WorkflowFilter,
    WorkflowUse, WorkflowsPage, WorkflowsQuery, stats_of, versions_page, workflows_page,
};
use aiki_core::name::Source;
use aiki_core::run::RunHead;
use aiki_core::run::export::RunExport;
use aiki_core::{Name, RunId, ServerError};

use super::LocalClient;
use crate::storage::RunQuery;
use crate::{record, validate};

impl LocalClient {
    pub(super) async fn runs_page(&self, filter: RunFilter, page: RunPageRequest) -> Result<RunPage, ServerError> {
        validate::page(page.limit)?;
        // One more tells whether there is a next page.
        let page = RunPageRequest { limit: page.limit + 1, ..page };
        let query = RunQuery { namespace: self.namespace.clone(), filter, page };
        let mut heads: Vec<RunHead> = self.server.readers.read(move |store| store.runs(&query)).await?;
        let more = heads.len() == page.limit;
        heads.truncate(page.limit - 1);
        let next = heads.last().filter(|_| more).map(|head| head.id);
        Ok(RunPage { runs: heads.iter().map(RunSummary::of).collect(), next })
    }

    pub(super) async fn runs_count(&self, filter: RunFilter) -> Result<u64, ServerError> {
        let namespace = self.namespace.clone();
        self.server.readers.read(move |store| store.count(&namespace, &filter)).await
    }

    async fn workflow_rows(&self, of: Option<(Source, Name)>) -> Result<Vec<WorkflowUse>, ServerError> {
        let namespace = self.namespace.clone();
        let read = self.server.readers.read(move |store| {
            let of = of.as_ref().map(|(source, name)| (*source, name));
            store.workflows(&namespace, of)
        });
        read.await
    }

    pub(super) async fn workflows(&self, query: WorkflowsQuery) -> Result<WorkflowsPage, ServerError> {
        validate::page(query.limit)?;
        Ok(workflows_page(&self.workflow_rows(None).await?, &query))
    }

    pub(super) async fn workflow_versions(&self, query: VersionsQuery) -> Result<VersionsPage, ServerError> {
        validate::page(query.limit)?;
        let rows = self.workflow_rows(Some((query.source, query.name.clone()))).await?;
        Ok(versions_page(&rows, &query))
    }

    pub(super) async fn stats(&self, workflow: Option<WorkflowFilter>) -> Result<StatusCounts, ServerError> {
        let of = workflow.as_ref().map(|workflow| (workflow.source, workflow.name.clone()));
        Ok(stats_of(&self.workflow_rows(of).await?, workflow.as_ref()))
    }

    pub(super) async fn export(&self, run: RunId) -> Result<RunExport, ServerError> {
        let stored = self.load(run).await?;
        let pages = self.server.readers.pages(&stored).await?;
        record::export(stored, &pages, self.server.clock.now())
    }
}
