//! The server as its own program sees it: no sockets, the same rules.

mod listing;
mod seeking;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aiki_core::listing::{
    RunFilter, RunPage, RunPageRequest, StatusCounts, VersionsPage, VersionsQuery, WorkflowFilter, WorkflowsPage,
    WorkflowsQuery,
};
use aiki_core::name::WorkflowKey;
use aiki_core::run::export::RunExport;
use aiki_core::run::plan::{CreateRun, RunCommand, TaskTarget};
use aiki_core::run::record::{Signal, TransitionRecord};
use aiki_core::run::{ConflictPolicy, HIDDEN_REFERENCE, Reference, RunHead, RunStatus};
use aiki_core::schedule::{ActivateSchedule, ScheduleFilter, ScheduleId, SchedulePage, ScheduleRecord, ScheduleStatus};
use aiki_core::server_client::{
    ChildRun, ClaimOutcome, ClaimReady, ClaimRef, ClaimRuns, ClaimStatus, ClaimedRun, CreatedRun, RunView, SendEvent,
    SetTaskResult, WorkerInfo, WorkerServes,
};
use aiki_core::{
    CancellationToken, Name, Payload, Report, ReportReceipt, RunId, RunRecord, RunState, ServerClient, ServerError,
    TraceParent,
};
use async_trait::async_trait;

use crate::measure::{self, Claimed};
use crate::operation::{
    ActivateScheduleOp, Cancel, CancelMany, Claim, ClaimAnswer, ClaimReadyRuns, Command, Create, Operation,
    ReceiveEvent, Refresh, Release, SetScheduleStatus, SetTask, WriteReport,
};
use crate::server::Inner;
use crate::storage::{LoadedRow, ReferenceKey, ScheduleKey, ScheduleQuery, StoredRun};
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

    pub(crate) async fn load(&self, run: RunId) -> Result<StoredRun, ServerError> {
        let stored = self.server.readers.load(run).await?;
        stored.filter(|stored| stored.head.namespace == self.namespace).ok_or(ServerError::RunNotFound(run))
    }

    async fn fold(&self, run: &StoredRun) -> Result<RunRecord, ServerError> {
        record::fold(run, &self.server.readers.pages(run).await?)
    }

    /// What the worker gets to see of a granted claim; `None` when the run's history cannot be read.
    /// The claim then stands without a worker until its lease lapses: given back at once, the run would
    /// be ready at once and go round in a circle.
    async fn granted(&self, run: StoredRun, lease: Duration) -> Option<ClaimedRun> {
        match self.fold(&run).await {
            Ok(record) => {
                let (epoch, history_limit) = (run.head.epoch, self.server.history_limit);
                let granted_at = run.head.lease.as_ref().map(|lease| lease.since);
                Some(ClaimedRun { record, epoch, lease, history_limit, granted_at })
            }
            Err(error) => {
                let run = run.head.id;
                tracing::error!(%run, %error, "a claimed run cannot be read; it is tried again in {lease:?}");
                None
            }
        }
    }

    /// Several runs in one look.
    pub(crate) async fn load_all(&self, runs: &[RunId]) -> Vec<Result<StoredRun, ServerError>> {
        let wanted = runs.to_vec();
        let told = |run: RunId, row: LoadedRow| {
            row?.filter(|stored| stored.head.namespace == self.namespace).ok_or(ServerError::RunNotFound(run))
        };
        match self.server.readers.read(move |store| store.load(&wanted)).await {
            Ok(rows) => runs.iter().zip(rows).map(|(run, row)| told(*run, row)).collect(),
            Err(error) => runs.iter().map(|_| Err(error.clone())).collect(),
        }
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

    pub(crate) fn view(&self, head: RunHead) -> RunView {
        let ready = matches!(head.state, RunState::Queued { .. });
        let unserved = ready && !self.server.workers.serves(&head, self.server.clock.now());
        RunView { revision: head.revision, state: head.state, unserved }
    }

    /// Claims delivered runs; the rows as they are stored.
    pub(crate) async fn claim_rows(&self, request: ClaimRuns) -> Result<Vec<ClaimAnswer>, ServerError> {
        validate::worker(&request.worker)?;
        validate::lease(request.lease)?;
        validate::items("runs", request.runs.len())?;
        let worker = request.worker.clone();
        let claim = Claim { namespace: self.namespace.clone(), request, in_process: self.in_process };
        let answers = self.server.lane.call(claim).await?;
        self.seen(&worker);
        Ok(answers)
    }

    /// Claims what is ready; the rows as they are stored.
    pub(crate) async fn claim_ready_rows(&self, request: ClaimReady) -> Result<Vec<StoredRun>, ServerError> {
        validate::worker(&request.worker)?;
        validate::lease(request.lease)?;
        validate::items("runs", request.limit)?;
        validate::items("workflows", request.workflows.len())?;
        validate::items("pools", request.pools.len())?;
        let (worker, in_process) = (request.worker.clone(), self.in_process);
        let (namespace, announcer) = (self.namespace.clone(), self.server.announcer.clone());
        let runs = self.server.lane.call(ClaimReadyRuns { namespace, request, in_process, announcer }).await?;
        self.seen(&worker);
        Ok(runs)
    }

    /// Creates a run, once for each key.
    pub(crate) async fn create_run_once(
        &self,
        key: Option<String>,
        request: CreateRun,
    ) -> Result<CreatedRun, ServerError> {
        self.server.lane.call(self.creation(key, request)?).await
    }

    /// The operation that creates a run, once for each key.
    pub(crate) fn creation(&self, key: Option<String>, mut request: CreateRun) -> Result<Create, ServerError> {
        request.trace = request.trace.or_else(|| self.trace.clone());
        let hidden = |reference: &Reference| reference.id.starts_with(HIDDEN_REFERENCE);
        if request.reference.as_ref().is_some_and(hidden) {
            return Err(ServerError::Invalid("the reference id begins with a control character: give another".into()));
        }
        if let (None, Some(key)) = (&request.reference, key) {
            let conflict_policy = ConflictPolicy::ReturnExisting;
            request.reference = Some(Reference { id: format!("{HIDDEN_REFERENCE}{key}"), conflict_policy });
        }
        validate::create(&request, self.server.payload_limit, self.server.clock.now())?;
        Ok(Create { namespace: self.namespace.clone(), request })
    }

    /// Hands over an event, once for each key.
    pub(crate) async fn send_event_once(&self, request: SendEvent, key: Option<String>) -> Result<(), ServerError> {
        self.server.lane.call(self.reception(request, key)?).await
    }

    /// The operation that hands over an event, once for each key.
    pub(crate) fn reception(&self, request: SendEvent, key: Option<String>) -> Result<ReceiveEvent, ServerError> {
        validate::event(&request.event, self.server.payload_limit)?;
        key.iter().try_for_each(|key| validate::name("the event's key", key))?;
        let (namespace, history_limit) = (self.namespace.clone(), self.server.history_limit);
        Ok(ReceiveEvent { namespace, request, key, history_limit, late: false })
    }

    /// The operation that writes a report.
    pub(crate) fn writing(&self, report: Report) -> Result<WriteReport, ServerError> {
        validate::report(&report, self.server.payload_limit)?;
        Ok(WriteReport { namespace: self.namespace.clone(), report, history_limit: self.server.history_limit })
    }

    /// The run with a reference id.
    pub(crate) async fn find_by_reference(
        &self,
        workflow: &WorkflowKey,
        reference_id: &str,
    ) -> Result<RunId, ServerError> {
        let key = ReferenceKey::of(&self.namespace, workflow, reference_id);
        let found = self.server.readers.read(move |store| store.by_reference(&[key])).await?;
        found.first().copied().flatten().ok_or_else(|| ServerError::ReferenceNotFound {
            workflow: workflow.clone(),
            reference_id: reference_id.to_owned(),
        })
    }

    fn seen(&self, worker: &Name) {
        self.server.workers.seen(&self.namespace, worker, self.server.clock.now());
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
        let view = |stored: StoredRun| self.view(stored.head);
        if timeout.is_zero() {
            return Ok(view(self.load(run).await?));
        }
        let mut watch = self.server.watchers.watch(run)?;
        let now = view(self.load(run).await?);
        if now.state.is_terminal() {
            return Ok(now);
        }
        let closed = || ServerError::Unavailable("the server was closed".into());
        tokio::select! {
            biased;
            ended = watch.ended() => ended.ok_or_else(closed),
            () = self.server.closed() => Err(closed()),
            () = self.server.draining() => Ok(view(self.load(run).await?)),
            () = tokio::time::sleep(timeout) => Ok(view(self.load(run).await?)),
        }
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
        let lease = request.lease;
        let answers = self.claim_rows(request).await?;
        let mut outcomes = Vec::with_capacity(answers.len());
        for answer in answers {
            outcomes.push(match answer {
                ClaimAnswer::Granted(run) => match self.granted(*run, lease).await {
                    Some(claimed) => ClaimOutcome::Granted(Box::new(claimed)),
                    None => ClaimOutcome::Owned { remaining: lease },
                },
                ClaimAnswer::Owned(remaining) => ClaimOutcome::Owned { remaining },
                ClaimAnswer::Done => ClaimOutcome::Done,
            });
            measure::claims(
                match outcomes.last() {
                    Some(ClaimOutcome::Granted(_)) => Claimed::Granted,
                    Some(ClaimOutcome::Done) => Claimed::Done,
                    _ => Claimed::Owned,
                },
                1,
            );
        }
        Ok(outcomes)
    }

    async fn claim_ready(&self, request: ClaimReady) -> Result<Vec<ClaimedRun>, ServerError> {
        let lease = request.lease;
        let runs = self.claim_ready_rows(request).await?;
        let mut claimed = Vec::with_capacity(runs.len());
        for run in runs {
            claimed.extend(self.granted(run, lease).await);
        }
        measure::claims(Claimed::Granted, claimed.len());
        Ok(claimed)
    }

    async fn await_ready(
        &self,
        request: ClaimReady,
        wait: Duration,
        enough: &CancellationToken,
    ) -> Result<Vec<ClaimedRun>, ServerError> {
        if wait.is_zero() {
            return self.claim_ready(request).await;
        }
        let lease = request.lease;
        let Sought::Claimed(runs, waited) = self.seek(request, wait, None, enough).await? else {
            return Ok(Vec::new());
        };
        let mut claimed = Vec::with_capacity(runs.len());
        for run in runs {
            claimed.extend(self.granted(run, lease + waited).await);
        }
        measure::claims(Claimed::Granted, claimed.len());
        Ok(claimed)
    }

    async fn refresh_runs(
        &self,
        worker: &Name,
        claims: &[ClaimRef],
        lease: Duration,
    ) -> Result<Vec<ClaimStatus>, ServerError> {
        validate::worker(worker)?;
        validate::lease(lease)?;
        validate::items("claims", claims.len())?;
        let refresh = Refresh { namespace: self.namespace.clone(), claims: claims.to_vec(), lease };
        let answers = self.server.lane.call(refresh).await?;
        self.seen(worker);
        Ok(answers)
    }

    async fn release_runs(&self, worker: &Name, claims: &[ClaimRef]) -> Result<Vec<ClaimStatus>, ServerError> {
        validate::worker(worker)?;
        validate::items("claims", claims.len())?;
        let release = Release { namespace: self.namespace.clone(), claims: claims.to_vec() };
        let answers = self.server.lane.call(release).await?;
        self.seen(worker);
        Ok(answers)
    }

    async fn report(&self, report: Report) -> Result<ReportReceipt, ServerError> {
        self.server.lane.call(self.writing(report)?).await
    }

    async fn list_workers(&self) -> Result<Vec<WorkerInfo>, ServerError> {
        /// Claims that are listed at most.
        const LIMIT: usize = 100_000;
        let (workers, now) = (&self.server.workers, self.server.clock.now());
        if !workers.is_shared() {
            return Ok(workers.list(&self.namespace, now));
        }
        let namespace = self.namespace.clone();
        let holders = self.server.readers.read(move |store| store.holders(&namespace, LIMIT)).await?;
        Ok(workers.list_shared(&self.namespace, now, holders))
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
        let payload = request.result.as_ref().map_or_else(|error| error.data.as_ref(), |output| output.as_ref());
        Payload::check_size(payload, self.server.payload_limit)
            .map_err(|error| ServerError::Invalid(error.to_string()))?;
        let attempts = match &request.target {
            TaskTarget::New { name, .. } => {
                validate::name("the task's name", name)?;
                1
            }
            TaskTarget::Existing(task) => {
                let record = self.get_run(request.run).await?;
                let found = record.tasks.iter().find(|recorded| recorded.id == *task);
                found.ok_or(ServerError::TaskNotFound(*task))?.state.attempts() + 1
            }
        };
        self.server.lane.call(SetTask { namespace: self.namespace.clone(), request, attempts }).await
    }

    async fn list_child_runs(&self, run: RunId, statuses: &[RunStatus]) -> Result<Vec<ChildRun>, ServerError> {
        const LIMIT: usize = 10_000;
        let rows = self.server.readers.read(move |store| {
            let children = store.children(run, LIMIT)?;
            store.load(&children)
        });
        let mut list = Vec::new();
        for row in rows.await? {
            // A child that cannot be read is not kept from the others.
            let Ok(Some(StoredRun { head, .. })) = row else { continue };
            let status = head.state.status();
            if head.namespace == self.namespace && (statuses.is_empty() || statuses.contains(&status)) {
                list.push(ChildRun { run: head.id, status, pool: head.pool().cloned() });
            }
        }
        Ok(list)
    }

    async fn get_signals(&self, run: RunId, known: u32) -> Result<Vec<Signal>, ServerError> {
        let stored = self.load(run).await?;
        record::signals_behind(known, &stored, &self.server.readers.pages(&stored).await?)
    }

    async fn announce_worker(&self, worker: &Name, serves: WorkerServes) -> Result<(), ServerError> {
        validate::worker(worker)?;
        validate::items("workflows", serves.workflows.len())?;
        validate::items("pools", serves.pools.len())?;
        self.server.workers.announce(&self.namespace, worker, serves, self.server.clock.now());
        Ok(())
    }

    async fn await_news(&self, worker: &Name, timeout: Duration) -> Result<Vec<RunId>, ServerError> {
        validate::worker(worker)?;
        let news = self.server.workers.news(&self.namespace, worker, self.server.clock.now());
        // Without a place to be told, there is no news; the wait is the same.
        let Some(news) = news else {
            let _ = tokio::time::timeout(timeout, self.server.draining()).await;
            return Ok(Vec::new());
        };
        tokio::select! {
            biased;
            runs = news.wait() => Ok(runs),
            () = self.server.closed() => Err(ServerError::Unavailable("the server was closed".into())),
            () = self.server.draining() => Ok(Vec::new()),
            () = tokio::time::sleep(timeout) => Ok(Vec::new()),
        }
    }
    async fn activate_schedule(&self, request: ActivateSchedule) -> Result<ScheduleRecord, ServerError> {
        let (calendar, hashes) = validate::schedule(&request, self.server.payload_limit)?;
        let namespace = self.namespace.clone();
        self.server.lane.call(ActivateScheduleOp { namespace, request, calendar, hashes }).await
    }

    async fn get_schedule(&self, schedule: ScheduleId) -> Result<ScheduleRecord, ServerError> {
        let found = self.server.readers.read(move |store| store.schedules().load(schedule)).await?;
        let own = found.map(|found| found.record).filter(|record| record.namespace == self.namespace);
        own.ok_or_else(|| ServerError::ScheduleNotFound(schedule.to_string()))
    }

    async fn get_schedule_by_reference(&self, reference_id: &str) -> Result<ScheduleRecord, ServerError> {
        let key = ScheduleKey::Reference(self.namespace.clone(), reference_id.to_owned());
        match self.server.readers.read(move |store| store.schedules().find(&key)).await? {
            Some(schedule) => self.get_schedule(schedule).await,
            None => Err(ServerError::ScheduleNotFound(format!("with the reference id `{reference_id}`"))),
        }
    }

    async fn list_schedules(
        &self,
        filter: ScheduleFilter,
        limit: usize,
        offset: usize,
    ) -> Result<SchedulePage, ServerError> {
        validate::items("schedules", limit)?;
        let query = ScheduleQuery { namespace: self.namespace.clone(), filter, limit, offset };
        let (schedules, total) = self.server.readers.read(move |store| store.schedules().list(&query)).await?;
        Ok(SchedulePage { schedules, total })
    }

    async fn set_schedule_status(
        &self,
        schedule: ScheduleId,
        status: ScheduleStatus,
    ) -> Result<ScheduleRecord, ServerError> {
        let namespace = self.namespace.clone();
        self.server.lane.call(SetScheduleStatus { namespace, schedule, status }).await
    }
}
