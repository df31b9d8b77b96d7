//! A client whose connection can be disturbed.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use aiki_core::listing::{
    RunFilter, RunPage, RunPageRequest, StatusCounts, VersionsPage, VersionsQuery, WorkflowFilter, WorkflowsPage,
    WorkflowsQuery,
};
use aiki_core::name::{Name, WorkflowKey};
use aiki_core::run::RunStatus;
use aiki_core::run::export::RunExport;
use aiki_core::run::plan::{CreateRun, RunCommand};
use aiki_core::run::record::{Signal, TransitionRecord};
use aiki_core::schedule::{ActivateSchedule, ScheduleFilter, ScheduleId, SchedulePage, ScheduleRecord, ScheduleStatus};
use aiki_core::server_client::{
    ChildRun, ClaimOutcome, ClaimReady, ClaimRef, ClaimRuns, ClaimStatus, ClaimedRun, CreatedRun, RunView, SendEvent,
    SetTaskResult, WorkerInfo, WorkerServes,
};
use aiki_core::{Client, Report, ReportReceipt, RunId, RunRecord, ServerClient, ServerError};
use async_trait::async_trait;

/// What is wrong, shared with the test.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// Every call fails.
    pub(crate) down: AtomicBool,
    /// Calls never answer.
    pub(crate) hanging: AtomicBool,
    /// The caller is not accepted.
    pub(crate) unauthorized: AtomicBool,
    /// So many answers to reports get lost after the server has written them.
    pub(crate) lost_replies: AtomicU32,
    /// Reports that were sent.
    pub(crate) reports: AtomicUsize,
    /// Claims sent in one call.
    pub(crate) claim_batches: Mutex<Vec<usize>>,
    /// Questions for whatever is ready, those that failed included.
    pub(crate) ready_claims: AtomicUsize,
    /// Refreshes sent.
    pub(crate) refreshes: AtomicUsize,
    /// Claims prolonged in one call.
    pub(crate) refresh_batches: Mutex<Vec<usize>>,
    /// Claims given back in one call.
    pub(crate) release_batches: Mutex<Vec<usize>>,
    /// Claims are prolonged for nobody, whatever is tried.
    pub(crate) refuses_refresh: AtomicBool,
    /// So many questions for signals fail.
    pub(crate) deaf: AtomicU32,
    /// The answers to claims come so many milliseconds after the server has granted them.
    pub(crate) slow_claims: AtomicU64,
    /// The answers to reports come so many milliseconds after the server has written them.
    pub(crate) slow_reports: AtomicU64,
}

pub(crate) struct Faulty {
    inner: Arc<dyn ServerClient>,
    faults: Arc<Faults>,
}

impl Faulty {
    pub(crate) fn wrap(client: &Client) -> (Client, Arc<Faults>) {
        let faults = Arc::new(Faults::default());
        let faulty = Faulty { inner: client.server().clone(), faults: faults.clone() };
        (Client::new(faulty), faults)
    }

    async fn late(&self) {
        let ms = self.faults.slow_claims.load(Ordering::SeqCst);
        if ms > 0 {
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
    }

    async fn gate(&self) -> Result<(), ServerError> {
        if self.faults.hanging.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_secs(86_400)).await;
        }
        if self.faults.unauthorized.load(Ordering::SeqCst) {
            return Err(ServerError::Unauthorized("the key is unknown".into()));
        }
        if self.faults.down.load(Ordering::SeqCst) {
            return Err(ServerError::Unavailable("the network is cut".into()));
        }
        Ok(())
    }
}

#[async_trait]
impl ServerClient for Faulty {
    fn namespace(&self) -> &Name {
        self.inner.namespace()
    }
    async fn create_run(&self, request: CreateRun) -> Result<CreatedRun, ServerError> {
        self.gate().await?;
        self.inner.create_run(request).await
    }
    async fn get_run(&self, run: RunId) -> Result<RunRecord, ServerError> {
        self.gate().await?;
        self.inner.get_run(run).await
    }
    async fn get_run_by_reference(&self, workflow: &WorkflowKey, reference: &str) -> Result<RunRecord, ServerError> {
        self.gate().await?;
        self.inner.get_run_by_reference(workflow, reference).await
    }
    async fn await_run(&self, run: RunId, timeout: Duration) -> Result<RunView, ServerError> {
        self.gate().await?;
        self.inner.await_run(run, timeout).await
    }
    async fn list_transitions(&self, run: RunId) -> Result<Vec<TransitionRecord>, ServerError> {
        self.gate().await?;
        self.inner.list_transitions(run).await
    }
    async fn list_runs(&self, filter: RunFilter, page: RunPageRequest) -> Result<RunPage, ServerError> {
        self.gate().await?;
        self.inner.list_runs(filter, page).await
    }
    async fn count_runs(&self, filter: RunFilter) -> Result<u64, ServerError> {
        self.gate().await?;
        self.inner.count_runs(filter).await
    }
    async fn list_workflows(&self, query: WorkflowsQuery) -> Result<WorkflowsPage, ServerError> {
        self.gate().await?;
        self.inner.list_workflows(query).await
    }
    async fn list_workflow_versions(&self, query: VersionsQuery) -> Result<VersionsPage, ServerError> {
        self.gate().await?;
        self.inner.list_workflow_versions(query).await
    }
    async fn run_stats(&self, workflow: Option<WorkflowFilter>) -> Result<StatusCounts, ServerError> {
        self.gate().await?;
        self.inner.run_stats(workflow).await
    }
    async fn export_run(&self, run: RunId) -> Result<RunExport, ServerError> {
        self.gate().await?;
        self.inner.export_run(run).await
    }
    async fn cancel_run(&self, run: RunId, explanation: Option<String>) -> Result<(), ServerError> {
        self.gate().await?;
        self.inner.cancel_run(run, explanation).await
    }
    async fn claim_runs(&self, request: ClaimRuns) -> Result<Vec<ClaimOutcome>, ServerError> {
        self.gate().await?;
        self.faults.claim_batches.lock().unwrap().push(request.runs.len());
        let outcomes = self.inner.claim_runs(request).await;
        self.late().await;
        outcomes
    }
    async fn claim_ready(&self, request: ClaimReady) -> Result<Vec<ClaimedRun>, ServerError> {
        self.faults.ready_claims.fetch_add(1, Ordering::SeqCst);
        self.gate().await?;
        let claimed = self.inner.claim_ready(request).await;
        self.late().await;
        claimed
    }
    async fn refresh_runs(
        &self,
        worker: &Name,
        claims: &[ClaimRef],
        lease: Duration,
    ) -> Result<Vec<ClaimStatus>, ServerError> {
        self.gate().await?;
        if self.faults.refuses_refresh.load(Ordering::SeqCst) && !claims.is_empty() {
            return Err(ServerError::Invalid("no such lease".into()));
        }
        self.faults.refreshes.fetch_add(1, Ordering::SeqCst);
        self.faults.refresh_batches.lock().unwrap().push(claims.len());
        self.inner.refresh_runs(worker, claims, lease).await
    }
    async fn release_runs(&self, worker: &Name, claims: &[ClaimRef]) -> Result<Vec<ClaimStatus>, ServerError> {
        self.gate().await?;
        self.faults.release_batches.lock().unwrap().push(claims.len());
        self.inner.release_runs(worker, claims).await
    }
    async fn report(&self, report: Report) -> Result<ReportReceipt, ServerError> {
        self.gate().await?;
        self.faults.reports.fetch_add(1, Ordering::SeqCst);
        let receipt = self.inner.report(report).await?;
        tokio::time::sleep(Duration::from_millis(self.faults.slow_reports.load(Ordering::SeqCst))).await;
        let lose = |left: u32| left.checked_sub(1);
        if self.faults.lost_replies.fetch_update(Ordering::SeqCst, Ordering::SeqCst, lose).is_ok() {
            return Err(ServerError::Unavailable("the answer was lost".into()));
        }
        Ok(receipt)
    }
    async fn list_workers(&self) -> Result<Vec<WorkerInfo>, ServerError> {
        self.gate().await?;
        self.inner.list_workers().await
    }
    async fn send_event(&self, request: SendEvent) -> Result<(), ServerError> {
        self.gate().await?;
        self.inner.send_event(request).await
    }
    async fn cancel_runs(&self, runs: &[RunId]) -> Result<Vec<RunId>, ServerError> {
        self.gate().await?;
        self.inner.cancel_runs(runs).await
    }
    async fn command_run(&self, run: RunId, command: RunCommand) -> Result<(), ServerError> {
        self.gate().await?;
        self.inner.command_run(run, command).await
    }
    async fn set_task_result(&self, request: SetTaskResult) -> Result<(), ServerError> {
        self.gate().await?;
        self.inner.set_task_result(request).await
    }
    async fn list_child_runs(&self, run: RunId, statuses: &[RunStatus]) -> Result<Vec<ChildRun>, ServerError> {
        self.gate().await?;
        self.inner.list_child_runs(run, statuses).await
    }
    async fn get_signals(&self, run: RunId, known: u32) -> Result<Vec<Signal>, ServerError> {
        self.gate().await?;
        let fail = |left: u32| left.checked_sub(1);
        if self.faults.deaf.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fail).is_ok() {
            return Err(ServerError::Unavailable("the question was lost".into()));
        }
        self.inner.get_signals(run, known).await
    }
    async fn announce_worker(&self, worker: &Name, serves: WorkerServes) -> Result<(), ServerError> {
        self.gate().await?;
        self.inner.announce_worker(worker, serves).await
    }
    async fn await_news(&self, worker: &Name, timeout: Duration) -> Result<Vec<RunId>, ServerError> {
        self.gate().await?;
        self.inner.await_news(worker, timeout).await
    }
    async fn activate_schedule(&self, request: ActivateSchedule) -> Result<ScheduleRecord, ServerError> {
        self.gate().await?;
        self.inner.activate_schedule(request).await
    }
    async fn get_schedule(&self, schedule: ScheduleId) -> Result<ScheduleRecord, ServerError> {
        self.gate().await?;
        self.inner.get_schedule(schedule).await
    }
    async fn get_schedule_by_reference(&self, reference: &str) -> Result<ScheduleRecord, ServerError> {
        self.gate().await?;
        self.inner.get_schedule_by_reference(reference).await
    }
    async fn list_schedules(
        &self,
        filter: ScheduleFilter,
        limit: usize,
        offset: usize,
    ) -> Result<SchedulePage, ServerError> {
        self.gate().await?;
        self.inner.list_schedules(filter, limit, offset).await
    }
    async fn set_schedule_status(
        &self,
        schedule: ScheduleId,
        status: ScheduleStatus,
    ) -> Result<ScheduleRecord, ServerError> {
        self.gate().await?;
        self.inner.set_schedule_status(schedule, status).await
    }
}
