//! Talking to the server: the trait that the embedded server and the HTTP client implement.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::cancel::CancellationToken;
use crate::failure::ErrorObject;
use crate::id::{RunId, TaskId};
use crate::listing::{
    RunFilter, RunPage, RunPageRequest, StatusCounts, VersionsPage, VersionsQuery, WorkflowFilter, WorkflowsPage,
    WorkflowsQuery,
};
use crate::name::{Name, WorkflowKey};
use crate::payload::Payload;
use crate::report::{Report, ReportReceipt};
use crate::run::export::RunExport;
use crate::run::plan::{CreateRun, EventMessage, RunCommand, TaskTarget};
use crate::run::record::{Signal, TransitionRecord};
use crate::run::{RunRecord, RunState, RunStatus};
use crate::schedule::{ActivateSchedule, ScheduleFilter, ScheduleId, SchedulePage, ScheduleRecord, ScheduleStatus};
use crate::time::Timestamp;

pub use crate::server_layer::ServerLayer;

/// Why the server did not do what was asked.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum ServerError {
    /// There is no such run.
    #[error("there is no run {0}")]
    RunNotFound(RunId),
    /// There is no run under this reference id.
    #[error("there is no run of {workflow} with the reference id `{reference_id}`")]
    ReferenceNotFound {
        /// The workflow version.
        workflow: WorkflowKey,
        /// The reference id.
        reference_id: String,
    },
    /// The reference id belongs to a run with another input.
    #[error(
        "the reference id `{reference_id}` belongs to run {run}, which was started with another input: use another \
         id, or ask for the existing run with ConflictPolicy::ReturnExisting"
    )]
    ReferenceConflict {
        /// The reference id.
        reference_id: String,
        /// The run that has it.
        run: RunId,
    },
    /// The run has ended: it takes no more events, and its tasks' results stand.
    #[error("run {run} is {status}: it takes no more")]
    RunEnded {
        /// The run.
        run: RunId,
        /// How it ended.
        status: RunStatus,
    },
    /// The run has no such task.
    #[error("there is no task {0}")]
    TaskNotFound(TaskId),
    /// The run cannot do that in its present state.
    #[error("{0}")]
    IllegalTransition(String),
    /// This server has no way to do it: repeating the request cannot help.
    #[error("{operation} is not possible: {reason}. {instead}")]
    Unsupported {
        /// What was asked for.
        operation: String,
        /// What the server lacks.
        reason: String,
        /// What to do next.
        instead: String,
    },
    /// The request itself is wrong: repeating it cannot help.
    #[error("the request is refused: {0}")]
    Invalid(String),
    /// The run has moved on since the caller saw it.
    #[error("run {run} has revision {actual}, not {expected}: read it again")]
    RevisionConflict {
        /// The run.
        run: RunId,
        /// What the caller expected.
        expected: u64,
        /// What it is.
        actual: u64,
    },
    /// The task changed between reading and writing.
    #[error("task {0} changed meanwhile: read it again")]
    TaskStateConflict(TaskId),
    /// The caller is known, and may not do that.
    #[error("not allowed: {0}")]
    Forbidden(String),
    /// The claim under which the worker wrote is gone: it must stop working on the run.
    #[error("the claim on run {0} is gone")]
    ClaimLost(RunId),
    /// There is no such schedule.
    #[error("there is no schedule {0}")]
    ScheduleNotFound(String),
    /// What was asked for belongs to another schedule.
    #[error("{reason}")]
    ScheduleConflict {
        /// The schedule that has it.
        schedule: ScheduleId,
        /// What it has, and what to do.
        reason: String,
    },
    /// The server or its store is out of order for now: repeating the request may help.
    #[error("the server is unavailable: {0}")]
    Unavailable(String),
    /// The server does not accept this caller, or the caller does not trust the server's certificate.
    #[error("access is refused: {0}")]
    Unauthorized(String),
    /// The server's own fault.
    #[error("the server failed: {0}")]
    Internal(String),
}

crate::debug_as_display!(ServerError);

impl ServerError {
    /// Whether the same request may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, ServerError::Unavailable(_))
    }
}

/// The answer to a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreatedRun {
    /// The run.
    pub id: RunId,
    /// Whether it was there already, under the same reference id.
    pub existed: bool,
}

/// A worker asks for runs that were delivered to it.
#[derive(Clone, Debug)]
pub struct ClaimRuns {
    /// The worker, by its unique name of this process start.
    pub worker: Name,
    /// The runs.
    pub runs: Vec<RunId>,
    /// How long the claim lasts unless it is refreshed.
    pub lease: Duration,
}

/// A worker asks for whatever is ready.
#[derive(Clone, Debug)]
pub struct ClaimReady {
    /// The worker, by its unique name of this process start.
    pub worker: Name,
    /// The workflow versions that it serves.
    pub workflows: Vec<WorkflowKey>,
    /// The pools that it belongs to; empty means runs without a pool.
    pub pools: Vec<Name>,
    /// At most so many runs.
    pub limit: usize,
    /// How long the claim lasts unless it is refreshed.
    pub lease: Duration,
}

/// A run that the worker owns until its lease ends.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimedRun {
    /// The whole run.
    pub record: RunRecord,
    /// The claim's number: the worker's reports must carry it.
    pub epoch: u64,
    /// How long the claim lasts unless it is refreshed, from the moment the claim was sent.
    pub lease: Duration,
    /// How many entries the run's history may have: beyond, the run fails.
    pub history_limit: u32,
    /// The server's time when it granted the claim, where it says so: due times are by its clock, and the
    /// worker's may differ.
    pub granted_at: Option<Timestamp>,
}

/// The answer for one run that a worker asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum ClaimOutcome {
    /// The worker owns it.
    Granted(Box<ClaimedRun>),
    /// A live lease stands elsewhere: the delivery is neither run nor acknowledged.
    Owned {
        /// How long that lease lasts at most.
        remaining: Duration,
    },
    /// The run needs no delivery: acknowledge it.
    Done,
}

/// Names a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimRef {
    /// The run.
    pub run: RunId,
    /// The claim's number.
    pub epoch: u64,
}

/// Whether a claim stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ClaimStatus {
    /// It stands, for another lease.
    Held,
    /// It is gone.
    Lost,
}

/// What is known of a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerInfo {
    /// Its unique name of this process start.
    pub name: Name,
    /// When it last claimed, refreshed or reported.
    pub last_seen: Timestamp,
    /// The runs it holds, each with the time of its claim.
    pub holds: Vec<(RunId, Timestamp)>,
    /// What it serves; `None` when it has not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serves: Option<WorkerServes>,
}

/// What a worker serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerServes {
    /// The workflow versions.
    pub workflows: Vec<WorkflowKey>,
    /// Its pools; empty means runs without a pool.
    pub pools: Vec<Name>,
}

/// An event for one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SendEvent {
    /// The run.
    pub run: RunId,
    /// The event.
    pub event: EventMessage,
}

/// An operator's result for a task.
#[derive(Clone, Debug, PartialEq)]
pub struct SetTaskResult {
    /// The run.
    pub run: RunId,
    /// The task.
    pub target: TaskTarget,
    /// What it returned, or how it failed.
    pub result: Result<Option<Payload>, ErrorObject>,
}

/// A child of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChildRun {
    /// The child.
    pub run: RunId,
    /// Where it stands.
    pub status: RunStatus,
    /// The pool that it is reserved for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<Name>,
}

/// A run's state together with the revision at which it stood there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunView {
    /// The revision.
    pub revision: u64,
    /// The state.
    pub state: RunState,
    /// The run is ready, but no worker that the server knows of serves its workflow version and pool.
    #[serde(default)]
    pub unserved: bool,
}

/// The server, as workers and clients see it. One value speaks for one namespace.
///
/// All methods are safe to repeat: a start with a reference id finds the run it made, a report is
/// known by its number, the rest changes nothing the second time or says why.
///
/// Cancel safety: dropping a future leaves open whether the request took effect.
#[async_trait]
pub trait ServerClient: Send + Sync + 'static {
    /// The namespace that this client speaks for.
    fn namespace(&self) -> &Name;

    /// Creates a run, or finds the one with the same reference id.
    async fn create_run(&self, request: CreateRun) -> Result<CreatedRun, ServerError>;

    /// Creates a run as [`create_run`](Self::create_run) does and waits until it has ended, at most for
    /// `timeout`; answers where it stands then. A client over a network needs one request for both.
    async fn create_and_wait(
        &self,
        request: CreateRun,
        timeout: Duration,
    ) -> Result<(CreatedRun, RunView), ServerError> {
        let created = self.create_run(request).await?;
        Ok((created, self.await_run(created.id, timeout).await?))
    }

    /// The whole run.
    async fn get_run(&self, run: RunId) -> Result<RunRecord, ServerError>;

    /// The run with this reference id.
    async fn get_run_by_reference(&self, workflow: &WorkflowKey, reference_id: &str) -> Result<RunRecord, ServerError>;

    /// Waits until the run has ended, at most for `timeout`; answers where it stands then.
    async fn await_run(&self, run: RunId, timeout: Duration) -> Result<RunView, ServerError>;

    /// The run's transitions, oldest first.
    async fn list_transitions(&self, run: RunId) -> Result<Vec<TransitionRecord>, ServerError>;

    /// A part of the list of runs that fit. What is committed before the call is seen. Lists that are read on by
    /// [`RunPage::next`] neither repeat nor hide runs when others come or go.
    ///
    /// # Errors
    /// [`ServerError::Invalid`] for a limit that is not 1 to [`MAX_PAGE`](crate::listing::MAX_PAGE).
    async fn list_runs(&self, filter: RunFilter, page: RunPageRequest) -> Result<RunPage, ServerError>;

    /// How many runs fit.
    async fn count_runs(&self, filter: RunFilter) -> Result<u64, ServerError>;

    /// The workflows that were ever used: one entry per name.
    ///
    /// # Errors
    /// [`ServerError::Invalid`] for a limit that is not 1 to [`MAX_PAGE`](crate::listing::MAX_PAGE).
    async fn list_workflows(&self, query: WorkflowsQuery) -> Result<WorkflowsPage, ServerError>;

    /// The versions of a workflow that were ever used. Errors as with [`list_workflows`](Self::list_workflows).
    async fn list_workflow_versions(&self, query: VersionsQuery) -> Result<VersionsPage, ServerError>;

    /// How the runs of a workflow stand, or with `None` all of the namespace; nothing but zeros for a workflow that
    /// is not known.
    async fn run_stats(&self, workflow: Option<WorkflowFilter>) -> Result<StatusCounts, ServerError>;

    /// The run with its whole history.
    async fn export_run(&self, run: RunId) -> Result<RunExport, ServerError>;

    /// Cancels a run.
    async fn cancel_run(&self, run: RunId, explanation: Option<String>) -> Result<(), ServerError>;

    /// Claims delivered runs. The answers are in the order of the request.
    async fn claim_runs(&self, request: ClaimRuns) -> Result<Vec<ClaimOutcome>, ServerError>;

    /// Claims whatever is ready, the most urgent and then the oldest first. A run that was announced is
    /// left for a second to those who listen.
    async fn claim_ready(&self, request: ClaimReady) -> Result<Vec<ClaimedRun>, ServerError>;

    /// As [`claim_ready`](Self::claim_ready); when nothing is ready, waits for up to `wait`, or until `enough` is
    /// cancelled. The lease of what is granted after a while is longer by that while, since it counts from the
    /// moment the claim was sent. A server that cannot wait answers at once.
    ///
    /// Cancel safety: what is granted while the future is dropped may stay claimed until its lease lapses. Cancel
    /// `enough` instead, and take the answer.
    async fn await_ready(
        &self,
        request: ClaimReady,
        wait: Duration,
        enough: &CancellationToken,
    ) -> Result<Vec<ClaimedRun>, ServerError> {
        let _ = (wait, enough);
        self.claim_ready(request).await
    }

    /// Prolongs claims by another lease. The answers are in the order of the request.
    async fn refresh_runs(
        &self,
        worker: &Name,
        claims: &[ClaimRef],
        lease: Duration,
    ) -> Result<Vec<ClaimStatus>, ServerError>;

    /// Gives claims back: the runs are ready at once for other workers. `Lost` means that the claim
    /// was gone already.
    async fn release_runs(&self, worker: &Name, claims: &[ClaimRef]) -> Result<Vec<ClaimStatus>, ServerError>;

    /// Records what a worker reports.
    ///
    /// # Errors
    /// [`ServerError::ClaimLost`] when the claim is gone; [`ServerError::Unavailable`] when it is
    /// worth sending the same report again.
    async fn report(&self, report: Report) -> Result<ReportReceipt, ServerError>;

    /// The workers that the server has heard of lately, and what each holds.
    async fn list_workers(&self) -> Result<Vec<WorkerInfo>, ServerError>;

    /// Hands an event to a run.
    ///
    /// # Errors
    /// [`ServerError::RunEnded`] when the run takes no more events.
    async fn send_event(&self, request: SendEvent) -> Result<(), ServerError>;

    /// Cancels every run of these that has not ended; answers which ones that were, in the order of the
    /// request. Runs that are not there are left out.
    async fn cancel_runs(&self, runs: &[RunId]) -> Result<Vec<RunId>, ServerError>;

    /// Pauses, resumes, wakes or requeues a run.
    ///
    /// # Errors
    /// [`ServerError::IllegalTransition`] when the run is not where the command is for.
    async fn command_run(&self, run: RunId, command: RunCommand) -> Result<(), ServerError>;

    /// Gives a task a result in the place of its body. A worker that holds the run loses it.
    async fn set_task_result(&self, request: SetTaskResult) -> Result<(), ServerError>;

    /// The children of a run in the order of their creation; those in one of the `statuses`, or all when
    /// there are none.
    async fn list_child_runs(&self, run: RunId, statuses: &[RunStatus]) -> Result<Vec<ChildRun>, ServerError>;

    /// The signals of a run behind the first `known` that it ever had.
    async fn get_signals(&self, run: RunId, known: u32) -> Result<Vec<Signal>, ServerError>;

    /// Tells the server what a worker serves, for a while: call it again before that is over.
    async fn announce_worker(&self, worker: &Name, serves: WorkerServes) -> Result<(), ServerError>;

    /// Waits until something has happened to runs that the worker holds, which it did not do itself:
    /// the claim is gone, or a signal has come. Answers those runs, or none when `timeout` is over.
    async fn await_news(&self, worker: &Name, timeout: Duration) -> Result<Vec<RunId>, ServerError>;

    // Schedules.

    /// Makes a schedule, or finds the one with the same definition and sees that it is active.
    ///
    /// # Errors
    /// [`ServerError::Invalid`] when the spec cannot be served: the text names the part that is wrong.
    /// [`ServerError::ScheduleConflict`] when the reference id or the definition belongs to another schedule.
    async fn activate_schedule(&self, request: ActivateSchedule) -> Result<ScheduleRecord, ServerError>;

    /// The schedule with this id.
    async fn get_schedule(&self, schedule: ScheduleId) -> Result<ScheduleRecord, ServerError>;

    /// The schedule with this reference id.
    async fn get_schedule_by_reference(&self, reference_id: &str) -> Result<ScheduleRecord, ServerError>;

    /// The schedules that fit, the oldest first: at most `limit` (up to 1000), behind the first `offset`.
    async fn list_schedules(
        &self,
        filter: ScheduleFilter,
        limit: usize,
        offset: usize,
    ) -> Result<SchedulePage, ServerError>;

    /// Pauses a schedule, resumes it or takes it out of service, whatever its status; answers how it stands
    /// then. A schedule that is resumed after its time fires at once.
    async fn set_schedule_status(
        &self,
        schedule: ScheduleId,
        status: ScheduleStatus,
    ) -> Result<ScheduleRecord, ServerError>;
}

/// At most so many runs get an event in one call.
pub const MULTICAST_LIMIT: usize = 10;

/// Who got an event that was sent to several runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Multicast {
    /// The runs that have it.
    pub sent: Vec<RunId>,
    /// The runs that do not, each with the reason.
    pub failed: Vec<(RunId, ServerError)>,
}
