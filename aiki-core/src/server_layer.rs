//! A client of the server that stands before another one.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::id::{RunId, ScheduleId};
use crate::listing::{
    RunFilter, RunPage, RunPageRequest, StatusCounts, VersionsPage, VersionsQuery, WorkflowFilter, WorkflowsPage,
    WorkflowsQuery,
};
use crate::name::{Name, WorkflowKey};
use crate::report::{Report, ReportReceipt};
use crate::run::export::RunExport;
use crate::run::plan::{CreateRun, RunCommand};
use crate::run::record::{Signal, TransitionRecord};
use crate::run::{RunRecord, RunStatus};
use crate::schedule::{ActivateSchedule, ScheduleFilter, SchedulePage, ScheduleRecord, ScheduleStatus};
use crate::server_client::{
    ChildRun, ClaimOutcome, ClaimReady, ClaimRef, ClaimRuns, ClaimStatus, ClaimedRun, CreatedRun, RunView, SendEvent,
    ServerClient, ServerError, SetTaskResult, WorkerInfo, WorkerServes,
};

/// Gives both traits the same methods.
macro_rules! layer {
    ($($method:ident($($argument:ident: $kind:ty),*) -> $answer:ty;)+) => {
        /// Stands between whoever asks and another [`ServerClient`]: a layer writes the methods that it changes, all
        /// others go on to [`inner`](Self::inner). Each layer is a [`ServerClient`] itself. The methods mean what they mean
        /// there.
        ///
        /// [`ServerClient::create_and_wait`] and [`ServerClient::await_ready`] are put together from the layer's own
        /// methods, so that what it changes holds for them as well: they do not wait at the server.
        ///
        /// ```
        /// use std::sync::Arc;
        /// use std::sync::atomic::{AtomicU64, Ordering};
        ///
        /// use aiki_core::server_client::ServerLayer;
        /// use aiki_core::{Report, ReportReceipt, ServerClient, ServerError};
        /// use async_trait::async_trait;
        ///
        /// /// Counts the reports of a worker.
        /// struct Counting {
        ///     inner: Arc<dyn ServerClient>,
        ///     reports: AtomicU64,
        /// }
        ///
        /// #[async_trait]
        /// impl ServerLayer for Counting {
        ///     fn inner(&self) -> &Arc<dyn ServerClient> {
        ///         &self.inner
        ///     }
        ///
        ///     async fn report(&self, report: Report) -> Result<ReportReceipt, ServerError> {
        ///         self.reports.fetch_add(1, Ordering::Relaxed);
        ///         self.inner.report(report).await
        ///     }
        /// }
        /// ```
        ///
        /// Cancel safety: as that of the methods that it calls.
        #[async_trait]
        pub trait ServerLayer: Send + Sync + 'static {
            /// Who is asked.
            fn inner(&self) -> &Arc<dyn ServerClient>;

            /// Comes before every call that goes on to [`inner`](Self::inner) by itself; one that fails does not. Nothing
            /// unless given.
            async fn before(&self) -> Result<(), ServerError> {
                Ok(())
            }

            $(
                #[doc = concat!("As [`ServerClient::", stringify!($method), "`].")]
                async fn $method(&self, $($argument: $kind),*) -> Result<$answer, ServerError> {
                    self.before().await?;
                    self.inner().$method($($argument),*).await
                }
            )+
        }

        #[async_trait]
        impl<L: ServerLayer> ServerClient for L {
            fn namespace(&self) -> &Name {
                self.inner().namespace()
            }

            $(
                async fn $method(&self, $($argument: $kind),*) -> Result<$answer, ServerError> {
                    ServerLayer::$method(self, $($argument),*).await
                }
            )+
        }
    };
}

layer! {
    create_run(request: CreateRun) -> CreatedRun;
    get_run(run: RunId) -> RunRecord;
    get_run_by_reference(workflow: &WorkflowKey, reference_id: &str) -> RunRecord;
    await_run(run: RunId, timeout: Duration) -> RunView;
    list_transitions(run: RunId) -> Vec<TransitionRecord>;
    list_runs(filter: RunFilter, page: RunPageRequest) -> RunPage;
    count_runs(filter: RunFilter) -> u64;
    list_workflows(query: WorkflowsQuery) -> WorkflowsPage;
    list_workflow_versions(query: VersionsQuery) -> VersionsPage;
    run_stats(workflow: Option<WorkflowFilter>) -> StatusCounts;
    export_run(run: RunId) -> RunExport;
    cancel_run(run: RunId, explanation: Option<String>) -> ();
    claim_runs(request: ClaimRuns) -> Vec<ClaimOutcome>;
    claim_ready(request: ClaimReady) -> Vec<ClaimedRun>;
    refresh_runs(worker: &Name, claims: &[ClaimRef], lease: Duration) -> Vec<ClaimStatus>;
    release_runs(worker: &Name, claims: &[ClaimRef]) -> Vec<ClaimStatus>;
    report(report: Report) -> ReportReceipt;
    list_workers() -> Vec<WorkerInfo>;
    send_event(request: SendEvent) -> ();
    cancel_runs(runs: &[RunId]) -> Vec<RunId>;
    command_run(run: RunId, command: RunCommand) -> ();
    set_task_result(request: SetTaskResult) -> ();
    list_child_runs(run: RunId, statuses: &[RunStatus]) -> Vec<ChildRun>;
    get_signals(run: RunId, known: u32) -> Vec<Signal>;
    announce_worker(worker: &Name, serves: WorkerServes) -> ();
    await_news(worker: &Name, timeout: Duration) -> Vec<RunId>;
    activate_schedule(request: ActivateSchedule) -> ScheduleRecord;
    get_schedule(schedule: ScheduleId) -> ScheduleRecord;
    get_schedule_by_reference(reference_id: &str) -> ScheduleRecord;
    list_schedules(filter: ScheduleFilter, limit: usize, offset: usize) -> SchedulePage;
    set_schedule_status(schedule: ScheduleId, status: ScheduleStatus) -> ScheduleRecord;
}
