//! The methods of [`ServerClient`].

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use aiki_core::listing::{
    RunFilter, RunPage, RunPageRequest, StatusCounts, VersionsPage, VersionsQuery, WorkflowFilter, WorkflowsPage,
    WorkflowsQuery,
};
use aiki_core::name::WorkflowKey;
use aiki_core::run::export::RunExport;
use aiki_core::run::plan::{CreateRun, RunCommand};
use aiki_core::run::record::{Signal, TransitionRecord, transitions};
use aiki_core::run::{RunState, RunStatus};
use aiki_core::schedule::{ActivateSchedule, ScheduleFilter, ScheduleId, SchedulePage, ScheduleRecord, ScheduleStatus};
use aiki_core::server_client::{
    ChildRun, ClaimOutcome, ClaimReady, ClaimRef, ClaimRuns, ClaimStatus, ClaimedRun, CreatedRun, RunView, SendEvent,
    SetTaskResult, WorkerInfo, WorkerServes,
};
use aiki_core::{CancellationToken, Name, Report, ReportReceipt, RunId, RunRecord, ServerClient, ServerError};
use aiki_runtime::{Entropy, SystemEntropy};
use aiki_wire::native::{
    ActivateScheduleCall, AnnounceWorker, AwaitNews, AwaitRuns, CancelRun, CancelRuns, ClaimAnswer, ClaimReadyRuns,
    Claimed, CommandRun, CountRuns, ExportRun, ExportedRun, GetRun, GetRunByReference, GetSchedule,
    GetScheduleByReference, GetSignals, ListChildRuns, ListRuns, ListSchedules, ListWorkers, ListWorkflowVersions,
    ListWorkflows, RunData, RunDataError, RunStats, SetScheduleStatus, StartAndWait, TaskResult,
};
use async_trait::async_trait;
use tokio::time::{Instant, timeout_at};

use super::client::{HttpClient, create_size, event_size};
use super::native::{Traced, keyed, new_run};
use super::send::Repeat::{Never, Safe, Unsafe};
use super::send::undecided;
use super::waits::Waits;

fn unreadable(error: RunDataError) -> ServerError {
    ServerError::Internal(error.to_string())
}

fn record(data: RunData) -> Result<RunRecord, ServerError> {
    data.record().map_err(unreadable)
}

/// A claim as the worker gets it; `None` when the run cannot be read: the claim stands without a worker until it
/// lapses.
fn claimed(claim: Claimed) -> Option<ClaimedRun> {
    let Claimed { run, epoch, lease, history_limit, waited } = claim;
    let lease = lease + waited;
    let granted_at = run.head.lease.as_ref().map(|lease| lease.since);
    match run.record() {
        Ok(record) => Some(ClaimedRun { record, epoch, lease, history_limit, granted_at }),
        Err(error) => {
            tracing::error!(%error, "a claimed run cannot be read; it is tried again in {lease:?}");
            None
        }
    }
}

/// A question that may be asked again should its answer get lost.
fn question(request: ClaimReady, wait: Duration) -> ClaimReadyRuns {
    let ClaimReady { worker, workflows, pools, limit, lease } = request;
    ClaimReadyRuns { worker, lease, workflows, pools, limit, question: Some(SystemEntropy.next_u64()), wait }
}

/// The payload of a report, in bytes.
fn report_size(report: &Report) -> usize {
    // Exact sizes do not matter: a transition without payload is small.
    report.transitions.len() * 100 + report.transitions.iter().map(transition_payload).sum::<usize>()
}

fn transition_payload(transition: &aiki_core::Transition) -> usize {
    use aiki_core::Transition;
    let payload = match transition {
        Transition::TaskOpened { input, .. } | Transition::ContinuedAsNew { input, .. } => input.as_ref(),
        Transition::ChildOpened { start, .. } => start.input.as_ref(),
        Transition::TaskProgressed { checkpoint, .. } => Some(checkpoint),
        Transition::TaskCompleted { output, .. } | Transition::Completed { output } => output.as_ref(),
        _ => None,
    };
    payload.map_or(0, |payload| payload.as_str().len())
}

#[async_trait]
impl ServerClient for HttpClient {
    fn namespace(&self) -> &Name {
        self.shared.session.namespace()
    }

    async fn create_run(&self, mut request: CreateRun) -> Result<CreatedRun, ServerError> {
        if let Some(plain) = self.plain().await? {
            return plain.create_run(request).await;
        }
        request.trace = request.trace.or_else(|| self.trace_parent());
        let size = create_size(&request);
        self.shared.creates.submit(&self.shared.io, request, size).await
    }

    async fn create_and_wait(
        &self,
        mut request: CreateRun,
        timeout: Duration,
    ) -> Result<(CreatedRun, RunView), ServerError> {
        if let Some(plain) = self.plain().await? {
            return plain.create_and_wait(request, timeout).await;
        }
        request.trace = request.trace.or_else(|| self.trace_parent());
        let max_wait = self.max_wait().await?;
        let deadline = Instant::now() + timeout;
        let first = timeout.min(max_wait);
        let answer = self.call_for(StartAndWait { run: new_run(request), timeout: first }, Safe, first).await?;
        let created = answer.created.into_result()?;
        match answer.view.map(aiki_wire::native::Outcome::into_result) {
            Some(Ok(view)) if view.state.is_terminal() || timeout <= first => Ok((created, view)),
            _ => {
                let left = deadline.saturating_duration_since(Instant::now());
                Ok((created, self.await_run(created.id, left).await?))
            }
        }
    }

    async fn get_run(&self, run: RunId) -> Result<RunRecord, ServerError> {
        if let Some(plain) = self.plain().await? {
            return plain.get_run(run).await;
        }
        record(self.call(GetRun { run }, Safe).await?)
    }

    async fn get_run_by_reference(&self, workflow: &WorkflowKey, reference_id: &str) -> Result<RunRecord, ServerError> {
        if let Some(plain) = self.plain().await? {
            return plain.get_run_by_reference(workflow, reference_id).await;
        }
        let (workflow, reference_id) = (workflow.clone(), reference_id.to_owned());
        record(self.call(GetRunByReference { workflow, reference_id }, Safe).await?)
    }

    async fn await_run(&self, run: RunId, timeout: Duration) -> Result<RunView, ServerError> {
        if let Some(plain) = self.plain().await? {
            return plain.await_run(run, timeout).await;
        }
        if !timeout.is_zero() {
            // The far future has no place in a clock.
            let deadline = Instant::now() + timeout.min(Duration::from_secs(10 * 365 * 86_400));
            if let Ok(ended) = timeout_at(deadline, Waits::ended(&self.shared, run)).await {
                return ended;
            }
        }
        let answers = self.call(AwaitRuns { runs: vec![run], timeout: Duration::ZERO }, Safe).await?;
        match answers.into_iter().next() {
            Some(told) => told.view.into_result(),
            None => Err(ServerError::Internal("the server's answer lacks the run".into())),
        }
    }

    async fn list_transitions(&self, run: RunId) -> Result<Vec<TransitionRecord>, ServerError> {
        if let Some(plain) = self.plain().await? {
            return plain.list_transitions(run).await;
        }
        let data = self.call(GetRun { run }, Safe).await?;
        Ok(transitions(&data.head, data.entries().map_err(unreadable)?))
    }

    async fn list_runs(&self, filter: RunFilter, page: RunPageRequest) -> Result<RunPage, ServerError> {
        if let Some(plain) = self.plain().await? {
            return plain.list_runs(filter, page).await;
        }
        self.call(ListRuns { filter, page }, Safe).await
    }

    async fn count_runs(&self, filter: RunFilter) -> Result<u64, ServerError> {
        if let Some(plain) = self.plain().await? {
            return plain.count_runs(filter).await;
        }
        self.call(CountRuns { filter }, Safe).await
    }

    async fn list_workflows(&self, query: WorkflowsQuery) -> Result<WorkflowsPage, ServerError> {
        if let Some(plain) = self.plain().await? {
            return plain.list_workflows(query).await;
        }
        self.call(ListWorkflows { query }, Safe).await
    }

    async fn list_workflow_versions(&self, query: VersionsQuery) -> Result<VersionsPage, ServerError> {
        if let Some(plain) = self.plain().await? {
            return plain.list_workflow_versions(query).await;
        }
        self.call(ListWorkflowVersions { query }, Safe).await
    }

    async fn run_stats(&self, workflow: Option<WorkflowFilter>) -> Result<StatusCounts, ServerError> {
        if let Some(plain) = self.plain().await? {
            return plain.run_stats(workflow).await;
        }
        self.call(RunStats { workflow }, Safe).await
    }

    async fn export_run(&self, run: RunId) -> Result<RunExport, ServerError> {
        if let Some(plain) = self.plain().await? {
            return plain.export_run(run).await;
        }
        let ExportedRun { exported_at, run } = self.call(ExportRun { run }, Safe).await?;
        let history = run.entries().map_err(unreadable)?;
        Ok(RunExport { exported_at, head: *run.head, history })
    }

    async fn cancel_run(&self, run: RunId, explanation: Option<String>) -> Result<(), ServerError> {
        if let Some(plain) = self.plain().await? {
            return plain.cancel_run(run, explanation).await;
        }
        let (shared, traceparent) = (Arc::clone(&self.shared), self.trace_context());
        let work = async move {
            let call = CancelRun { run, explanation };
            let Err(gave_up) = shared.try_call(&call, Safe, Duration::ZERO, traceparent).await else { return Ok(()) };
            let lost_before = gave_up.lost_before;
            let error = shared.error(gave_up);
            if !lost_before || !matches!(error, ServerError::IllegalTransition(_)) {
                return Err(error);
            }
            // The answer to the first try was lost: perhaps it is this that stands in the way of the second.
            let look = AwaitRuns { runs: vec![run], timeout: Duration::ZERO };
            let told = shared.call_for(&look, Safe, Duration::ZERO, None).await?;
            match told.into_iter().next().map(|told| told.view.into_result()) {
                Some(Ok(RunView { state: RunState::Cancelled { .. }, .. })) => Ok(()),
                _ => Err(error),
            }
        };
        self.shared.io.run(work).await
    }

    async fn claim_runs(&self, request: ClaimRuns) -> Result<Vec<ClaimOutcome>, ServerError> {
        if let Some(plain) = self.plain().await? {
            return plain.claim_runs(request).await;
        }
        let ClaimRuns { worker, runs, lease } = request;
        let call = aiki_wire::native::ClaimRuns { worker, lease, runs };
        let answers = self.call(call, Safe).await?;
        let outcome = |answer| match answer {
            ClaimAnswer::Granted(claim) => match claimed(*claim) {
                Some(claimed) => ClaimOutcome::Granted(Box::new(claimed)),
                None => ClaimOutcome::Owned { remaining: lease },
            },
            ClaimAnswer::Owned { remaining } => ClaimOutcome::Owned { remaining },
            ClaimAnswer::Done => ClaimOutcome::Done,
        };
        Ok(answers.into_iter().map(outcome).collect())
    }

    async fn claim_ready(&self, request: ClaimReady) -> Result<Vec<ClaimedRun>, ServerError> {
        if let Some(plain) = self.plain().await? {
            return plain.claim_ready(request).await;
        }
        let call = question(request, Duration::ZERO);
        Ok(self.call(call, Safe).await?.into_iter().filter_map(claimed).collect())
    }

    async fn await_ready(
        &self,
        request: ClaimReady,
        wait: Duration,
        enough: &CancellationToken,
    ) -> Result<Vec<ClaimedRun>, ServerError> {
        let wait = wait.min(self.max_wait().await?);
        if wait.is_zero() {
            return self.claim_ready(request).await;
        }
        let call = question(request, wait);
        let end = ClaimReadyRuns { limit: 0, wait: Duration::ZERO, ..call.clone() };
        let mut asking = pin!(self.call_for(call, Safe, wait));
        let answer = tokio::select! {
            biased;
            answer = &mut asking => answer,
            // What was granted meanwhile comes with the answer.
            () = enough.cancelled() => tokio::join!(asking, self.call(end, Safe)).0,
        };
        Ok(answer?.into_iter().filter_map(claimed).collect())
    }

    async fn refresh_runs(
        &self,
        worker: &Name,
        claims: &[ClaimRef],
        lease: Duration,
    ) -> Result<Vec<ClaimStatus>, ServerError> {
        if let Some(plain) = self.plain().await? {
            return plain.refresh_runs(worker, claims, lease).await;
        }
        let call = aiki_wire::native::RefreshRuns { worker: worker.clone(), lease, claims: claims.to_vec() };
        self.call(call, Safe).await
    }

    async fn release_runs(&self, worker: &Name, claims: &[ClaimRef]) -> Result<Vec<ClaimStatus>, ServerError> {
        if let Some(plain) = self.plain().await? {
            return plain.release_runs(worker, claims).await;
        }
        let call = aiki_wire::native::ReleaseRuns { worker: worker.clone(), claims: claims.to_vec() };
        self.call(call, Safe).await
    }

    async fn report(&self, report: Report) -> Result<ReportReceipt, ServerError> {
        // Whatever keeps the server from being asked is no word on the report.
        if let Some(plain) = self.plain().await.map_err(undecided)? {
            return plain.report(report).await;
        }
        let size = report_size(&report);
        self.shared.reports.submit(&self.shared.io, report, size).await
    }

    async fn list_workers(&self) -> Result<Vec<WorkerInfo>, ServerError> {
        if let Some(plain) = self.plain().await? {
            return plain.list_workers().await;
        }
        self.call(ListWorkers {}, Safe).await
    }

    async fn send_event(&self, request: SendEvent) -> Result<(), ServerError> {
        if let Some(plain) = self.plain().await? {
            return plain.send_event(request).await;
        }
        let size = event_size(&request);
        let key = SystemEntropy.next_u64();
        let item = Traced { item: keyed(request, key), traceparent: self.trace_context() };
        self.shared.events.submit(&self.shared.io, item, size).await
    }

    async fn cancel_runs(&self, runs: &[RunId]) -> Result<Vec<RunId>, ServerError> {
        if let Some(plain) = self.plain().await? {
            return plain.cancel_runs(runs).await;
        }
        self.call(CancelRuns { runs: runs.to_vec() }, Unsafe).await
    }

    async fn command_run(&self, run: RunId, command: RunCommand) -> Result<(), ServerError> {
        if let Some(plain) = self.plain().await? {
            return plain.command_run(run, command).await;
        }
        self.call(CommandRun { run, command }, Unsafe).await
    }

    async fn set_task_result(&self, request: SetTaskResult) -> Result<(), ServerError> {
        if let Some(plain) = self.plain().await? {
            return plain.set_task_result(request).await;
        }
        let SetTaskResult { run, target, result } = request;
        let result = match result {
            Ok(output) => TaskResult::Completed { output },
            Err(error) => TaskResult::Failed { error },
        };
        self.call(aiki_wire::native::SetTaskResult { run, target, result }, Unsafe).await
    }

    async fn list_child_runs(&self, run: RunId, statuses: &[RunStatus]) -> Result<Vec<ChildRun>, ServerError> {
        if let Some(plain) = self.plain().await? {
            return plain.list_child_runs(run, statuses).await;
        }
        self.call(ListChildRuns { run, statuses: statuses.to_vec() }, Safe).await
    }

    async fn get_signals(&self, run: RunId, known: u32) -> Result<Vec<Signal>, ServerError> {
        if let Some(plain) = self.plain().await? {
            return plain.get_signals(run, known).await;
        }
        self.call(GetSignals { run, known }, Safe).await
    }

    async fn announce_worker(&self, worker: &Name, serves: WorkerServes) -> Result<(), ServerError> {
        if let Some(plain) = self.plain().await? {
            return plain.announce_worker(worker, serves).await;
        }
        self.call(AnnounceWorker { worker: worker.clone(), serves }, Safe).await
    }

    /// One long poll, of the server's longest wait at most. News are told once, and a server that begins anew has
    /// none, so any failure is an error: whoever asked has to look at all that it holds.
    async fn await_news(&self, worker: &Name, timeout: Duration) -> Result<Vec<RunId>, ServerError> {
        if let Some(plain) = self.plain().await? {
            return plain.await_news(worker, timeout).await;
        }
        let timeout = timeout.min(self.max_wait().await?);
        self.call_for(AwaitNews { worker: worker.clone(), timeout }, Never, timeout).await
    }

    async fn activate_schedule(&self, request: ActivateSchedule) -> Result<ScheduleRecord, ServerError> {
        if let Some(plain) = self.plain().await? {
            return plain.activate_schedule(request).await;
        }
        Ok(self.call(ActivateScheduleCall { schedule: request }, Safe).await?.into())
    }

    async fn get_schedule(&self, schedule: ScheduleId) -> Result<ScheduleRecord, ServerError> {
        if let Some(plain) = self.plain().await? {
            return plain.get_schedule(schedule).await;
        }
        Ok(self.call(GetSchedule { schedule }, Safe).await?.into())
    }

    async fn get_schedule_by_reference(&self, reference_id: &str) -> Result<ScheduleRecord, ServerError> {
        if let Some(plain) = self.plain().await? {
            return plain.get_schedule_by_reference(reference_id).await;
        }
        Ok(self.call(GetScheduleByReference { reference_id: reference_id.to_owned() }, Safe).await?.into())
    }

    async fn list_schedules(
        &self,
        filter: ScheduleFilter,
        limit: usize,
        offset: usize,
    ) -> Result<SchedulePage, ServerError> {
        if let Some(plain) = self.plain().await? {
            return plain.list_schedules(filter, limit, offset).await;
        }
        Ok(self.call(ListSchedules { filter, limit, offset }, Safe).await?.into())
    }

    async fn set_schedule_status(
        &self,
        schedule: ScheduleId,
        status: ScheduleStatus,
    ) -> Result<ScheduleRecord, ServerError> {
        if let Some(plain) = self.plain().await? {
            return plain.set_schedule_status(schedule, status).await;
        }
        Ok(self.call(SetScheduleStatus { schedule, status }, Safe).await?.into())
    }
}
