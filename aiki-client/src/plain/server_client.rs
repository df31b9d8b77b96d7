//! The methods of [`ServerClient`] for a server of the plain contract.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aiki_core::listing::{
    RunFilter, RunPage, RunPageRequest, StatusCounts, VersionsPage, VersionsQuery, WorkflowFilter, WorkflowsPage,
    WorkflowsQuery,
};
use aiki_core::name::WorkflowKey;
use aiki_core::run::export::RunExport;
use aiki_core::run::plan::{CreateRun, RunCommand};
use aiki_core::run::record::{Signal, TransitionRecord};
use aiki_core::run::{RunState, RunStatus};
use aiki_core::schedule::{ActivateSchedule, ScheduleFilter, ScheduleId, SchedulePage, ScheduleRecord, ScheduleStatus};
use aiki_core::server_client::{
    ChildRun, ClaimOutcome, ClaimReady, ClaimRef, ClaimRuns, ClaimStatus, ClaimedRun, CreatedRun, RunView, SendEvent,
    SetTaskResult, WorkerInfo, WorkerServes,
};
use aiki_core::{Name, Report, ReportReceipt, RunId, RunRecord, ServerClient, ServerError};
use aiki_wire::contract::run_answer::{
    CancelledRuns, ChildList, CreatedRun as Created, FoundState, ReadyRuns, RunAfter,
};
use aiki_wire::contract::run_record::{FoundRun, WorkflowRunRecord};
use aiki_wire::error::ErrorCode;
use async_trait::async_trait;
use tokio::time::{Instant, sleep};

use super::Plain;
use super::calls::{
    ByReference, Cancel, Children, ClaimReady as ClaimReadyV1, Create, Event, EventOptions, Id, MoveRun, State,
};
use super::held::Held;
use super::record::{Folded, children, ended, events, fold};
use super::report::AGAIN;
use crate::http::{Failure, Repeat};

/// Time between two looks at a run that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(500);

fn missing<T>(what: &str) -> Result<T, ServerError> {
    Err(ServerError::Invalid(format!("{what}: this client cannot do that with a server of the plain contract")))
}

impl Plain {
    /// The ends of children that the record does not tell itself.
    async fn ends(&self, run: &WorkflowRunRecord) -> Result<BTreeMap<RunId, RunState>, ServerError> {
        let mut ends = BTreeMap::new();
        for (info, _) in children(run) {
            if ended(info).is_none() {
                let state = self.state(info.id).await?;
                if state.is_terminal() {
                    ends.insert(info.id, state);
                }
            }
        }
        Ok(ends)
    }

    async fn state(&self, run: RunId) -> Result<RunState, ServerError> {
        let call = Id { id: run.to_string() };
        let found: FoundState = self.about(run, "workflowRun/getStateV1", &call, Repeat::Safe).await?;
        Ok(found.state)
    }

    async fn fold(&self, run: WorkflowRunRecord) -> Result<Folded, ServerError> {
        let ends = self.ends(&run).await?;
        Ok(fold(run, self.namespace(), &ends))
    }

    /// Takes a run that was delivered, or that the server has reserved for us.
    async fn claim(&self, run: RunId, lease: Duration) -> Result<ClaimOutcome, ServerError> {
        let fetched = match self.fetch(run).await {
            Ok(fetched) => fetched,
            Err(ServerError::RunNotFound(_)) => return Ok(ClaimOutcome::Done),
            Err(error) => return Err(error),
        };
        if !matches!(fetched.state, RunState::Queued { .. } | RunState::Running) {
            return Ok(ClaimOutcome::Done);
        }
        let call = MoveRun::expecting(run, fetched.revision, State::of("running"));
        let after = self.about::<RunAfter>(run, "workflowRun/transitionStateV1", &call, Repeat::Unsafe).await;
        let after = match after {
            Ok(after) => after,
            // Somebody else was faster.
            Err(ServerError::ClaimLost(_) | ServerError::IllegalTransition(_)) => {
                return Ok(ClaimOutcome::Owned { remaining: lease });
            }
            Err(error) => return Err(error),
        };
        let Folded { mut record, tasks, children } = self.fold(fetched).await?;
        (record.revision, record.state, record.attempts) = (after.revision, after.state, after.attempts);
        let ended = record.children.iter().filter(|child| child.ended.is_some()).map(|child| child.ordinal);
        let held = Held {
            epoch: after.revision,
            revision: after.revision,
            tasks,
            children,
            events: record.events.len(),
            ended: ended.collect(),
            waiting: Vec::new(),
            parked: false,
            writing: (0, 0),
            started: Vec::new(),
            last: None,
        };
        self.claims().put(run, held);
        Ok(ClaimOutcome::Granted(Box::new(ClaimedRun {
            record,
            epoch: after.revision,
            lease,
            history_limit: u32::MAX,
            granted_at: None,
        })))
    }

    async fn transition(&self, run: RunId, state: State) -> Result<(), ServerError> {
        let call = MoveRun::anyhow(run, state);
        self.about::<RunAfter>(run, "workflowRun/transitionStateV1", &call, Repeat::Unsafe).await.map(drop)
    }
}

#[async_trait]
impl ServerClient for Plain {
    fn namespace(&self) -> &Name {
        self.http.namespace()
    }

    async fn create_run(&self, request: CreateRun) -> Result<CreatedRun, ServerError> {
        let repeat = if request.reference.is_some() { Repeat::Safe } else { Repeat::Unsafe };
        let reference_id = request.reference.as_ref().map(|reference| reference.id.clone());
        let created = self.post::<Created>("workflowRun/createV1", &Create::new(request, None), repeat).await;
        match created {
            Ok(created) => Ok(CreatedRun { id: created.id, existed: false }),
            Err(gave_up) => Err(match (&gave_up.failure, reference_id) {
                (Failure::Coded(ErrorCode::ReferenceConflict, text), Some(id)) => {
                    ServerError::Invalid(format!("the reference id `{id}` belongs to a run with another input: {text}"))
                }
                _ => self.http.shared.error(gave_up),
            }),
        }
    }

    async fn get_run(&self, run: RunId) -> Result<RunRecord, ServerError> {
        let fetched = self.fetch(run).await?;
        Ok(self.fold(fetched).await?.record)
    }

    async fn get_run_by_reference(&self, workflow: &WorkflowKey, reference_id: &str) -> Result<RunRecord, ServerError> {
        let (name, version_id) = (workflow.name.as_str(), workflow.version.as_str());
        let call = ByReference { name, version_id, reference_id };
        match self.post::<FoundRun>("workflowRun/getByReferenceIdV1", &call, Repeat::Safe).await {
            Ok(found) => Ok(self.fold(found.run).await?.record),
            Err(gave_up) if matches!(gave_up.failure, Failure::Coded(ErrorCode::NotFound, _)) => {
                let (workflow, reference_id) = (workflow.clone(), reference_id.to_owned());
                Err(ServerError::ReferenceNotFound { workflow, reference_id })
            }
            Err(gave_up) => Err(self.http.shared.error(gave_up)),
        }
    }

    /// Looks every half second.
    async fn await_run(&self, run: RunId, timeout: Duration) -> Result<RunView, ServerError> {
        let began = Instant::now();
        loop {
            match self.state(run).await {
                Ok(state) if state.is_terminal() => break,
                Ok(_) => {}
                // It comes back, or the time is over.
                Err(error) if error.is_transient() && began.elapsed() < timeout => {}
                Err(error) => return Err(error),
            }
            let left = timeout.saturating_sub(began.elapsed());
            if left.is_zero() {
                break;
            }
            sleep(left.min(LOOK_EVERY)).await;
        }
        let fetched = self.fetch(run).await?;
        Ok(RunView { revision: fetched.revision, state: fetched.state, unserved: false })
    }

    async fn list_transitions(&self, _run: RunId) -> Result<Vec<TransitionRecord>, ServerError> {
        missing("listing transitions")
    }

    async fn list_runs(&self, _filter: RunFilter, _page: RunPageRequest) -> Result<RunPage, ServerError> {
        missing("listing runs")
    }

    async fn count_runs(&self, _filter: RunFilter) -> Result<u64, ServerError> {
        missing("counting runs")
    }

    async fn list_workflows(&self, _query: WorkflowsQuery) -> Result<WorkflowsPage, ServerError> {
        missing("listing workflows")
    }

    async fn list_workflow_versions(&self, _query: VersionsQuery) -> Result<VersionsPage, ServerError> {
        missing("listing versions")
    }

    async fn run_stats(&self, _workflow: Option<WorkflowFilter>) -> Result<StatusCounts, ServerError> {
        missing("counting runs by status")
    }

    async fn export_run(&self, _run: RunId) -> Result<RunExport, ServerError> {
        missing("exporting a run")
    }

    async fn cancel_run(&self, run: RunId, explanation: Option<String>) -> Result<(), ServerError> {
        self.transition(run, State { explanation, ..State::of("cancelled") }).await
    }

    async fn claim_runs(&self, request: ClaimRuns) -> Result<Vec<ClaimOutcome>, ServerError> {
        let mut outcomes = Vec::with_capacity(request.runs.len());
        for run in request.runs {
            outcomes.push(self.claim(run, request.lease).await?);
        }
        Ok(outcomes)
    }

    async fn claim_ready(&self, request: ClaimReady) -> Result<Vec<ClaimedRun>, ServerError> {
        let ClaimReady { workflows, pools, limit, lease, .. } = request;
        let call = ClaimReadyV1 { workflows, pools, limit };
        let ready = self.post::<ReadyRuns>("workflowRun/claimReadyV1", &call, Repeat::Unsafe).await;
        let ready = ready.map_err(|gave_up| self.http.shared.error(gave_up))?;
        let mut claimed = Vec::new();
        for run in ready.runs {
            match self.claim(run.id, lease).await {
                Ok(ClaimOutcome::Granted(run)) => claimed.push(*run),
                Ok(_) => {}
                // Its claim lapses. The others are not kept waiting for that.
                Err(error) => tracing::warn!(run = %run.id, %error, "a ready run could not be taken"),
            }
        }
        Ok(claimed)
    }

    async fn refresh_runs(
        &self,
        _worker: &Name,
        claims: &[ClaimRef],
        _lease: Duration,
    ) -> Result<Vec<ClaimStatus>, ServerError> {
        let mut answers = Vec::with_capacity(claims.len());
        for ClaimRef { run, epoch } in claims {
            if !self.claims().has(*run, *epoch) {
                // A report of it may be under way; when it is over the revision tells.
                answers.push(ClaimStatus::Held);
                continue;
            }
            let held = match self.state(*run).await {
                Ok(state) => matches!(state, RunState::Running),
                Err(ServerError::RunNotFound(_)) => false,
                Err(error) => return Err(error),
            };
            if held {
                let call = Id { id: run.to_string() };
                self.about::<Option<()>>(*run, "workflowRun/claimRefreshV1", &call, Repeat::Safe).await?;
                answers.push(ClaimStatus::Held);
            } else {
                drop(self.claims().take(*run, *epoch));
                answers.push(ClaimStatus::Lost);
            }
        }
        Ok(answers)
    }

    /// The contract knows no return: the run sleeps for a millisecond, and is ready again.
    async fn release_runs(&self, _worker: &Name, claims: &[ClaimRef]) -> Result<Vec<ClaimStatus>, ServerError> {
        let mut answers = Vec::with_capacity(claims.len());
        for ClaimRef { run, epoch } in claims {
            let Some(held) = self.claims().take(*run, *epoch) else {
                answers.push(ClaimStatus::Lost);
                continue;
            };
            let call = MoveRun::expecting(*run, held.revision, State::sleeping(AGAIN, 1));
            let moved = self.about::<RunAfter>(*run, "workflowRun/transitionStateV1", &call, Repeat::Unsafe).await;
            answers.push(if moved.is_ok() { ClaimStatus::Held } else { ClaimStatus::Lost });
        }
        Ok(answers)
    }

    async fn report(&self, report: Report) -> Result<ReportReceipt, ServerError> {
        self.write(report).await
    }

    async fn list_workers(&self) -> Result<Vec<WorkerInfo>, ServerError> {
        Ok(Vec::new())
    }

    async fn send_event(&self, request: SendEvent) -> Result<(), ServerError> {
        let SendEvent { run, event } = request;
        let repeat = if event.reference_id.is_some() { Repeat::Safe } else { Repeat::Unsafe };
        let reference = event.reference_id.map(|id| Id { id });
        let call = Event { id: run, event_name: event.name, data: event.data, options: EventOptions { reference } };
        self.about::<Option<()>>(run, "workflowRun/sendEventV1", &call, repeat).await.map(drop)
    }

    async fn cancel_runs(&self, runs: &[RunId]) -> Result<Vec<RunId>, ServerError> {
        let Some(first) = runs.first() else { return Ok(Vec::new()) };
        let call = Cancel { ids: runs.to_vec() };
        let answer: CancelledRuns = self.about(*first, "workflowRun/cancelByIdsV1", &call, Repeat::Unsafe).await?;
        let cancelled: BTreeSet<_> = answer.cancelled_ids.into_iter().collect();
        Ok(runs.iter().copied().filter(|run| cancelled.contains(run)).collect())
    }

    async fn command_run(&self, run: RunId, command: RunCommand) -> Result<(), ServerError> {
        let scheduled = |reason| State { reason: Some(reason), scheduled_in_ms: Some(0), ..State::of("scheduled") };
        let state = match command {
            RunCommand::Pause => State::of("paused"),
            RunCommand::Resume => scheduled("resumption"),
            RunCommand::WakeUp => scheduled("wakeup_early"),
            RunCommand::Requeue => scheduled("redelivery"),
        };
        self.transition(run, state).await
    }

    async fn set_task_result(&self, _request: SetTaskResult) -> Result<(), ServerError> {
        missing("giving a task a result")
    }

    async fn list_child_runs(&self, run: RunId, statuses: &[RunStatus]) -> Result<Vec<ChildRun>, ServerError> {
        let call = Children { id: run, child_run_status: statuses.to_vec() };
        let list: ChildList = self.about(run, "workflowRun/listChildRunsV1", &call, Repeat::Safe).await?;
        let mut runs = Vec::with_capacity(list.runs.len());
        for child in list.runs {
            let status = self.state(child.id).await?.status();
            runs.push(ChildRun { run: child.id, status, pool: child.options.and_then(|options| options.pool) });
        }
        runs.sort_by_key(|child| child.run);
        Ok(runs)
    }

    async fn get_signals(&self, run: RunId, _known: u32) -> Result<Vec<Signal>, ServerError> {
        let Some((seen, over, started)) = self.claims().known(run) else { return Ok(Vec::new()) };
        let fetched = self.fetch(run).await?;
        let all = events(&fetched);
        let mut signals: Vec<Signal> = all.iter().skip(seen).cloned().map(Signal::Event).collect();
        let mut ended = over.clone();
        for (child, id) in started.into_iter().enumerate() {
            let child = child as u32;
            if !over.contains(&child) {
                let state = self.state(id).await?;
                if state.is_terminal() {
                    ended.insert(child);
                    signals.push(Signal::ChildEnded { child, state });
                }
            }
        }
        self.claims().learn(run, all.len(), ended);
        Ok(signals)
    }

    async fn announce_worker(&self, _worker: &Name, _serves: WorkerServes) -> Result<(), ServerError> {
        Ok(())
    }

    /// There are none: what has come is seen when the run is about to wait.
    async fn await_news(&self, _worker: &Name, timeout: Duration) -> Result<Vec<RunId>, ServerError> {
        sleep(timeout).await;
        Ok(Vec::new())
    }

    async fn activate_schedule(&self, _request: ActivateSchedule) -> Result<ScheduleRecord, ServerError> {
        missing("making a schedule")
    }

    async fn get_schedule(&self, _schedule: ScheduleId) -> Result<ScheduleRecord, ServerError> {
        missing("reading a schedule")
    }

    async fn get_schedule_by_reference(&self, _reference_id: &str) -> Result<ScheduleRecord, ServerError> {
        missing("reading a schedule")
    }

    async fn list_schedules(
        &self,
        _filter: ScheduleFilter,
        _limit: usize,
        _offset: usize,
    ) -> Result<SchedulePage, ServerError> {
        missing("listing schedules")
    }

    async fn set_schedule_status(
        &self,
        _schedule: ScheduleId,
        _status: ScheduleStatus,
    ) -> Result<ScheduleRecord, ServerError> {
        missing("changing a schedule")
    }
}
