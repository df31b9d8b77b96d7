//! The methods of [`ServerClient`] for a server of the plain contract.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aiki_core::id::TransitionId;
use aiki_core::listing::{
    RunFilter, RunPage, RunPageRequest, StatusCounts, VersionsPage, VersionsQuery, WorkflowFilter, WorkflowsPage,
    WorkflowsQuery,
};
use aiki_core::name::WorkflowKey;
use aiki_core::run::export::RunExport;
use aiki_core::run::plan::{CreateRun, RunCommand};
use aiki_core::run::record::{Signal, TransitionRecord};
use aiki_core::run::{ChildRecord, RunState, RunStatus};
use aiki_core::schedule::{ActivateSchedule, ScheduleFilter, ScheduleId, SchedulePage, ScheduleRecord, ScheduleStatus};
use aiki_core::server_client::{
    ChildRun, ClaimOutcome, ClaimReady, ClaimRef, ClaimRuns, ClaimStatus, ClaimedRun, CreatedRun, RunView, SendEvent,
    SetTaskResult, WorkerInfo, WorkerServes,
};
use aiki_core::{Name, Report, ReportReceipt, RunId, RunRecord, ServerClient, ServerError};
use aiki_wire::contract::run_answer::{
    CancelledRuns, ChildList, CreatedRun as Created, FoundState, ReadyRuns, RunAfter, Terminated,
};
use aiki_wire::contract::run_record::{FoundRun, WorkflowRunRecord};
use aiki_wire::error::ErrorCode;
use async_trait::async_trait;
use tokio::time::{Instant, sleep};

use super::Plain;
use super::calls::{
    ByReference, Cancel, Children, ClaimReady as ClaimReadyV1, Create, Event, EventOptions, HasTerminated, Id, MoveRun,
    State,
};
use super::held::{Held, Standing};
use super::record::{Folded, children, ended, events, fold};
use super::report::AGAIN;
use super::unsupported::{check_start, exporting, listing_workers};
use crate::http::{Failure, GaveUp, Repeat};

/// As with our own procedures.
const CANCELLED_AT_ONCE: usize = 1_000;
/// So often an event is sent to a run that moves at that moment.
const EVENT_TRIES: usize = 5;
/// Time between two looks at a run that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(500);

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

    pub(super) async fn state(&self, run: RunId) -> Result<RunState, ServerError> {
        let call = Id { id: run.to_string() };
        let found: FoundState = self.about(run, "workflowRun/getStateV1", &call, Repeat::Safe).await?;
        Ok(found.state)
    }

    async fn fold(&self, run: WorkflowRunRecord) -> Result<Folded, ServerError> {
        let ends = self.ends(&run).await?;
        Ok(fold(run, self.namespace(), &ends))
    }

    /// A record to look at: its tasks have the ids that the server knows them by, not those of a claim.
    async fn look(&self, run: WorkflowRunRecord) -> Result<RunRecord, ServerError> {
        let Folded { mut record, tasks, .. } = self.fold(run).await?;
        record.tasks.iter_mut().zip(tasks).for_each(|(task, id)| task.id = id);
        Ok(record)
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
            transition: None,
            tasks,
            children,
            pool: record.options.as_ref().and_then(|options| options.pool.clone()),
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

    /// The signals of a run that is not held here. In which order events came and children ended is not told: the
    /// events are first.
    async fn signals(&self, run: RunId, known: u32) -> Result<Vec<Signal>, ServerError> {
        let fetched = self.fetch(run).await?;
        let RunRecord { events, children, .. } = self.fold(fetched).await?.record;
        let ended = children.into_iter().filter_map(|child| {
            let ChildRecord { ordinal: child, ended, .. } = child;
            ended.map(|state| Signal::ChildEnded { child, state })
        });
        Ok(events.into_iter().map(Signal::Event).chain(ended).skip(known as usize).collect())
    }

    /// Whether a run is still where it was claimed. The first look reads the run and notes its transition; the
    /// others only ask for that.
    async fn stands(&self, run: RunId, revision: u64, since: Option<TransitionId>) -> Result<bool, ServerError> {
        let stands = match since {
            Some(since) => {
                let call = HasTerminated { id: run.to_string(), after_state_transition_id: since.to_string() };
                let told = self.about::<Terminated>(run, "workflowRun/hasTerminatedV1", &call, Repeat::Safe).await;
                told.map(|told| told.latest_state_transition_id == since)
            }
            None => self.fetch(run).await.map(|fetched| {
                self.claims().note(run, fetched.revision, fetched.state_transition_id);
                fetched.revision == revision
            }),
        };
        match stands {
            Err(ServerError::RunNotFound(_)) => Ok(false),
            stands => stands,
        }
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

    /// Whether the run existed is looked up beforehand: of starts at the same time all may be told that it did not.
    async fn create_run(&self, request: CreateRun) -> Result<CreatedRun, ServerError> {
        check_start(&request)?;
        let (workflow, reference) = (request.workflow.clone(), request.reference.clone());
        let known = match &reference {
            Some(reference) => self.run_under(&workflow, &reference.id).await?,
            None => None,
        };
        let repeat = if reference.is_some() { Repeat::Safe } else { Repeat::Unsafe };
        let created = self.post::<Created>("workflowRun/createV1", &Create::new(request, None), repeat).await;
        match (created, reference) {
            (Ok(Created { id }), _) => Ok(CreatedRun { id, existed: known == Some(id) }),
            (Err(GaveUp { failure: Failure::Coded(ErrorCode::ReferenceConflict, told), .. }), Some(reference)) => {
                let run = match known {
                    Some(run) => Some(run),
                    None => self.run_under(&workflow, &reference.id).await?,
                };
                Err(match run {
                    Some(run) => ServerError::ReferenceConflict { reference_id: reference.id, run },
                    None => ServerError::Invalid(told),
                })
            }
            (Err(gave_up), _) => Err(self.http.shared.error(gave_up)),
        }
    }

    async fn get_run(&self, run: RunId) -> Result<RunRecord, ServerError> {
        let fetched = self.fetch(run).await?;
        self.look(fetched).await
    }

    async fn get_run_by_reference(&self, workflow: &WorkflowKey, reference_id: &str) -> Result<RunRecord, ServerError> {
        let (name, version_id) = (workflow.name.as_str(), workflow.version.as_str());
        let call = ByReference { name, version_id, reference_id };
        match self.post::<FoundRun>("workflowRun/getByReferenceIdV1", &call, Repeat::Safe).await {
            Ok(found) => self.look(found.run).await,
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

    async fn list_transitions(&self, run: RunId) -> Result<Vec<TransitionRecord>, ServerError> {
        self.transitions(run).await
    }

    async fn list_runs(&self, filter: RunFilter, page: RunPageRequest) -> Result<RunPage, ServerError> {
        self.runs(filter, page).await
    }

    async fn count_runs(&self, filter: RunFilter) -> Result<u64, ServerError> {
        self.count(filter).await
    }

    async fn list_workflows(&self, query: WorkflowsQuery) -> Result<WorkflowsPage, ServerError> {
        self.workflows(query).await
    }

    async fn list_workflow_versions(&self, query: VersionsQuery) -> Result<VersionsPage, ServerError> {
        self.versions(query).await
    }

    async fn run_stats(&self, workflow: Option<WorkflowFilter>) -> Result<StatusCounts, ServerError> {
        self.stats(workflow).await
    }

    async fn export_run(&self, run: RunId) -> Result<RunExport, ServerError> {
        self.state(run).await?;
        Err(exporting())
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
            let held = match self.claims().standing(*run, *epoch) {
                Standing::Gone => false,
                Standing::Writing => true,
                // A report may have moved the run meanwhile.
                Standing::Held { revision, transition } => {
                    self.stands(*run, revision, transition).await?
                        || self.claims().standing(*run, *epoch) == Standing::Writing
                }
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
            let Some((held, _taken)) = self.claims().take(*run, *epoch) else {
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
        Err(listing_workers())
    }

    /// The contract keeps events of runs that have ended: it is looked for that first. One that comes while the run
    /// ends is kept for nobody.
    async fn send_event(&self, request: SendEvent) -> Result<(), ServerError> {
        let SendEvent { run, event } = request;
        let status = self.state(run).await?.status();
        if status.is_terminal() {
            return Err(ServerError::RunEnded { run, status });
        }
        let repeat = if event.reference_id.is_some() { Repeat::Safe } else { Repeat::Unsafe };
        let reference = event.reference_id.map(|id| Id { id });
        let call = Event { id: run, event_name: event.name, data: event.data, options: EventOptions { reference } };
        for _ in 0..EVENT_TRIES {
            let Err(gave_up) = self.post::<Option<()>>("workflowRun/sendEventV1", &call, repeat).await else {
                return Ok(());
            };
            return Err(match gave_up.failure {
                // The run moved at that moment: nothing was kept.
                Failure::Coded(ErrorCode::RevisionConflict, _) => continue,
                Failure::Coded(ErrorCode::NotFound, _) => ServerError::RunNotFound(run),
                _ => self.http.shared.error(gave_up),
            });
        }
        Err(ServerError::Unavailable(format!("run {run} moves too fast to take the event: send it again")))
    }

    async fn cancel_runs(&self, runs: &[RunId]) -> Result<Vec<RunId>, ServerError> {
        let Some(first) = runs.first() else { return Ok(Vec::new()) };
        if runs.len() > CANCELLED_AT_ONCE {
            let text = format!("{} runs in one request: cancel at most {CANCELLED_AT_ONCE} at a time", runs.len());
            return Err(ServerError::Invalid(text));
        }
        let call = Cancel { ids: runs.to_vec() };
        let answer: CancelledRuns = self.about(*first, "workflowRun/cancelByIdsV1", &call, Repeat::Unsafe).await?;
        let mut cancelled: BTreeSet<_> = answer.cancelled_ids.into_iter().collect();
        Ok(runs.iter().copied().filter(|run| cancelled.remove(run)).collect())
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

    async fn set_task_result(&self, request: SetTaskResult) -> Result<(), ServerError> {
        self.set_result(request).await
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

    async fn get_signals(&self, run: RunId, known: u32) -> Result<Vec<Signal>, ServerError> {
        let Some((seen, over, started)) = self.claims().known(run) else {
            return if self.claims().is_taken(run) { Ok(Vec::new()) } else { self.signals(run, known).await };
        };
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

    async fn activate_schedule(&self, request: ActivateSchedule) -> Result<ScheduleRecord, ServerError> {
        self.activate(request).await
    }

    async fn get_schedule(&self, schedule: ScheduleId) -> Result<ScheduleRecord, ServerError> {
        self.schedule_by_id(schedule).await
    }

    async fn get_schedule_by_reference(&self, reference_id: &str) -> Result<ScheduleRecord, ServerError> {
        self.schedule_by_reference(reference_id).await
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
        self.set_schedule(schedule, status).await
    }
}
