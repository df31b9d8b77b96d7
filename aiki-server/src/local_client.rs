//! The server as its own program sees it: no sockets, the same rules.

mod claims;
mod creation;
mod listing;
mod reading;
mod schedules;
mod seeking;
mod workers;
mod writing;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aiki_core::listing::{
    RunFilter, RunPage, RunPageRequest, StatusCounts, VersionsPage, VersionsQuery, WorkflowFilter, WorkflowsPage,
    WorkflowsQuery,
};
use aiki_core::name::WorkflowKey;
use aiki_core::run::RunStatus;
use aiki_core::run::export::RunExport;
use aiki_core::run::plan::{CreateRun, RunCommand};
use aiki_core::run::record::{Signal, TransitionRecord};
use aiki_core::schedule::{ActivateSchedule, ScheduleFilter, ScheduleId, SchedulePage, ScheduleRecord, ScheduleStatus};
use aiki_core::server_client::{
    ChildRun, ClaimOutcome, ClaimReady, ClaimRef, ClaimRuns, ClaimStatus, ClaimedRun, CreatedRun, RunView, SendEvent,
    SetTaskResult, WorkerInfo, WorkerServes,
};
use aiki_core::{
    CancellationToken, Name, Report, ReportReceipt, RunId, RunRecord, ServerClient, ServerError, TraceParent,
};
use async_trait::async_trait;

use crate::operation::{Cancel, CancelMany, Command, Operation};
use crate::server::Inner;
use crate::{record, validate};
pub(crate) use seeking::Sought;

/// Speaks to the server of the same program for one namespace. A run of another namespace is not
/// found. The server lives for as long as one of its clients does, unless it is closed.
#[derive(Clone)]
pub struct LocalClient {
    pub(crate) server: Arc<Inner>,
    pub(crate) namespace: Name,
    /// Whether its workers live in this process: their claims end with it.
    in_process: bool,
    /// The trace of the request on whose behalf it asks.
    trace: Option<TraceParent>,
}

impl LocalClient {
    pub(crate) fn new(server: Arc<Inner>, namespace: Name) -> Self {
        Self { server, namespace, in_process: true, trace: None }
    }

    /// For callers that outlive this process.
    pub(crate) fn for_others(server: Arc<Inner>, namespace: Name) -> Self {
        Self { server, namespace, in_process: false, trace: None }
    }

    /// Runs that it creates belong to this trace, unless they name another.
    #[cfg(feature = "http")]
    pub(crate) fn within(self, trace: Option<TraceParent>) -> Self {
        Self { trace, ..self }
    }

    /// Plans and commits what is valid, in one go; the answers are in their order.
    pub(crate) async fn call_each<O: Operation>(
        &self,
        operations: Vec<Result<O, ServerError>>,
    ) -> Vec<Result<O::Answer, ServerError>> {
        let (mut valid, mut refused) = (Vec::with_capacity(operations.len()), Vec::new());
        for operation in operations {
            refused.push(match operation {
                Ok(operation) => {
                    valid.push(operation);
                    None
                }
                Err(error) => Some(error),
            });
        }
        let mut answers = self.server.lane.call_all(valid).await.into_iter();
        let missing = || Err(ServerError::Internal("the lane's answer lacks an item".into()));
        refused.into_iter().map(|error| error.map_or_else(|| answers.next().unwrap_or_else(missing), Err)).collect()
    }
}

impl fmt::Debug for LocalClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalClient").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

#[async_trait]
impl ServerClient for LocalClient {
    fn namespace(&self) -> &Name {
        &self.namespace
    }

    async fn create_run(&self, request: CreateRun) -> Result<CreatedRun, ServerError> {
        self.create_run_once(None, request).await
    }

    async fn get_run(&self, run: RunId) -> Result<RunRecord, ServerError> {
        self.fold(&self.load(run).await?).await
    }

    async fn get_run_by_reference(&self, workflow: &WorkflowKey, reference_id: &str) -> Result<RunRecord, ServerError> {
        self.get_run(self.find_by_reference(workflow, reference_id).await?).await
    }

    async fn await_run(&self, run: RunId, timeout: Duration) -> Result<RunView, ServerError> {
        self.ended(run, timeout).await
    }

    async fn list_transitions(&self, run: RunId) -> Result<Vec<TransitionRecord>, ServerError> {
        let stored = self.load(run).await?;
        record::list(&stored, &self.server.readers.pages(&stored).await?)
    }

    async fn list_runs(&self, filter: RunFilter, page: RunPageRequest) -> Result<RunPage, ServerError> {
        self.runs_page(filter, page).await
    }

    async fn count_runs(&self, filter: RunFilter) -> Result<u64, ServerError> {
        self.runs_count(filter).await
    }

    async fn list_workflows(&self, query: WorkflowsQuery) -> Result<WorkflowsPage, ServerError> {
        self.workflows(query).await
    }

    async fn list_workflow_versions(&self, query: VersionsQuery) -> Result<VersionsPage, ServerError> {
        self.workflow_versions(query).await
    }

    async fn run_stats(&self, workflow: Option<WorkflowFilter>) -> Result<StatusCounts, ServerError> {
        self.stats(workflow).await
    }

    async fn export_run(&self, run: RunId) -> Result<RunExport, ServerError> {
        self.export(run).await
    }

    async fn cancel_run(&self, run: RunId, explanation: Option<String>) -> Result<(), ServerError> {
        self.server.lane.call(Cancel { namespace: self.namespace.clone(), run, explanation }).await
    }

    async fn claim_runs(&self, request: ClaimRuns) -> Result<Vec<ClaimOutcome>, ServerError> {
        self.claim_delivered(request).await
    }

    async fn claim_ready(&self, request: ClaimReady) -> Result<Vec<ClaimedRun>, ServerError> {
        self.claim_any(request).await
    }

    async fn await_ready(
        &self,
        request: ClaimReady,
        wait: Duration,
        enough: &CancellationToken,
    ) -> Result<Vec<ClaimedRun>, ServerError> {
        self.await_any(request, wait, enough).await
    }

    async fn refresh_runs(
        &self,
        worker: &Name,
        claims: &[ClaimRef],
        lease: Duration,
    ) -> Result<Vec<ClaimStatus>, ServerError> {
        self.refresh(worker, claims, lease).await
    }

    async fn release_runs(&self, worker: &Name, claims: &[ClaimRef]) -> Result<Vec<ClaimStatus>, ServerError> {
        self.release(worker, claims).await
    }

    async fn report(&self, report: Report) -> Result<ReportReceipt, ServerError> {
        self.server.lane.call(self.writing(report)?).await
    }

    async fn list_workers(&self) -> Result<Vec<WorkerInfo>, ServerError> {
        self.workers_seen().await
    }

    async fn send_event(&self, request: SendEvent) -> Result<(), ServerError> {
        self.send_event_once(request, None).await
    }

    async fn cancel_runs(&self, runs: &[RunId]) -> Result<Vec<RunId>, ServerError> {
        validate::items("runs", runs.len())?;
        self.server.lane.call(CancelMany { namespace: self.namespace.clone(), runs: runs.to_vec() }).await
    }

    async fn command_run(&self, run: RunId, command: RunCommand) -> Result<(), ServerError> {
        self.server.lane.call(Command { namespace: self.namespace.clone(), run, command }).await
    }

    async fn set_task_result(&self, request: SetTaskResult) -> Result<(), ServerError> {
        self.set_task(request).await
    }

    async fn list_child_runs(&self, run: RunId, statuses: &[RunStatus]) -> Result<Vec<ChildRun>, ServerError> {
        self.children(run, statuses).await
    }

    async fn get_signals(&self, run: RunId, known: u32) -> Result<Vec<Signal>, ServerError> {
        let stored = self.load(run).await?;
        record::signals_behind(known, &stored, &self.server.readers.pages(&stored).await?)
    }

    async fn announce_worker(&self, worker: &Name, serves: WorkerServes) -> Result<(), ServerError> {
        self.announce(worker, serves)
    }

    async fn await_news(&self, worker: &Name, timeout: Duration) -> Result<Vec<RunId>, ServerError> {
        self.news(worker, timeout).await
    }

    async fn activate_schedule(&self, request: ActivateSchedule) -> Result<ScheduleRecord, ServerError> {
        self.schedule_activated(request).await
    }

    async fn get_schedule(&self, schedule: ScheduleId) -> Result<ScheduleRecord, ServerError> {
        self.schedule(schedule).await
    }

    async fn get_schedule_by_reference(&self, reference_id: &str) -> Result<ScheduleRecord, ServerError> {
        self.schedule_of(reference_id).await
    }

    async fn list_schedules(
        &self,
        filter: ScheduleFilter,
        limit: usize,
        offset: usize,
    ) -> Result<SchedulePage, ServerError> {
        self.schedules(filter, limit, offset).await
    }

    async fn set_schedule_status(
        &self,
        schedule: ScheduleId,
        status: ScheduleStatus,
    ) -> Result<ScheduleRecord, ServerError> {
        self.schedule_set(schedule, status).await
    }
}
