//! The line between a process and the server: it delays, loses, and is where processes die. It also notes
//! what the server answered, where it answers.

use std::sync::Arc;
use std::time::Duration;

use aiki_core::listing::{
    RunFilter, RunPage, RunPageRequest, StatusCounts, VersionsPage, VersionsQuery, WorkflowFilter, WorkflowsPage,
    WorkflowsQuery,
};
use aiki_core::run::RunStatus;
use aiki_core::run::export::RunExport;
use aiki_core::run::plan::{CreateRun, RunCommand};
use aiki_core::run::record::{Signal, TransitionRecord};
use aiki_core::schedule::{ActivateSchedule, ScheduleFilter, SchedulePage};
use aiki_core::server_client::{
    ChildRun, ClaimOutcome, ClaimReady, ClaimRef, ClaimRuns, ClaimStatus, ClaimedRun, CreatedRun, RunView, SendEvent,
    SetTaskResult, WorkerInfo, WorkerServes,
};
use aiki_core::{
    Name, Report, ReportReceipt, RunId, RunRecord, ScheduleId, ScheduleRecord, ScheduleStatus, ServerClient,
    ServerError, WorkflowKey,
};
use async_trait::async_trait;
use tokio::time::sleep;

use super::bug::Bug;
use super::process::Process;
use super::world::{World, lock};
use crate::history::{Fault, What, Written};

/// A process's own line.
pub(crate) struct Line {
    pub(crate) world: Arc<World>,
    pub(crate) process: Arc<Process>,
    pub(crate) namespace: Name,
}

fn lost(what: &str) -> ServerError {
    ServerError::Unavailable(format!("{what} was lost"))
}

impl Line {
    /// Makes a call that the server answers at once.
    async fn call<T, F>(&self, call: impl FnOnce(Arc<dyn ServerClient>) -> F + Send) -> Result<T, ServerError>
    where
        F: Future<Output = Result<T, ServerError>> + Send,
        T: Send,
    {
        let (world, process) = (&self.world, &self.process);
        process.alive().await;
        let ambush = self.ambush();
        if ambush == Some(false) {
            world.fault(Fault::KilledBeforeCall, Some(process));
            process.die_here().await;
        }
        self.lag().await;
        if world.goes_wrong(12) {
            world.fault(Fault::RequestLost, Some(process));
            return Err(lost("the request"));
        }
        let answer = self.ask(call).await;
        if ambush == Some(true) {
            world.fault(Fault::KilledAfterCall, Some(process));
            process.die_here().await;
        }
        self.lag().await;
        if world.goes_wrong(12) {
            world.fault(Fault::ReplyLost, Some(process));
            return Err(lost("the answer"));
        }
        answer
    }

    /// Asks the server that there is, as long as it is there.
    async fn ask<T, F>(&self, call: impl FnOnce(Arc<dyn ServerClient>) -> F) -> Result<T, ServerError>
    where
        F: Future<Output = Result<T, ServerError>>,
    {
        let world = &self.world;
        let Some(server) = world.server() else {
            return Err(ServerError::Unavailable("nobody listens".into()));
        };
        let gone = world.server_gone.notified();
        tokio::pin!(gone);
        gone.as_mut().enable();
        tokio::select! {
            biased;
            () = gone => Err(ServerError::Unavailable("the connection was reset".into())),
            answer = call(server) => answer,
        }
    }

    /// Whether the process is to die at this call, and when: before or after it.
    fn ambush(&self) -> Option<bool> {
        if self.world.is_calm() {
            return None;
        }
        let mut ambush = lock(&self.process.ambush);
        let set = ambush.as_mut()?;
        if set.calls > 0 {
            set.calls -= 1;
            return None;
        }
        ambush.take().map(|set| set.applied)
    }

    async fn lag(&self) {
        if self.world.goes_wrong(250) {
            sleep(Duration::from_millis(self.world.chance.within(1, 200))).await;
            self.process.alive().await;
        }
    }

    fn granted(&self, claimed: &mut ClaimedRun) {
        let (run, epoch) = (claimed.record.id, claimed.epoch);
        lock(&self.world.granted).insert(run, epoch);
        self.world.note(What::Granted { run, epoch, worker: self.process.name() });
        if self.world.bug == Some(Bug::StaleRecord) {
            forget_last(&mut claimed.record);
        }
    }
}

/// Forgets the result of the task that ended last, as if it were still under way.
fn forget_last(record: &mut RunRecord) {
    use aiki_core::run::TaskState;
    let last = record.tasks.iter_mut().filter(|task| task.settled.is_some()).max_by_key(|task| task.settled);
    if let Some(task) = last {
        task.state = TaskState::Running { attempts: task.state.attempts() };
        task.settled = None;
    }
}

#[async_trait]
impl ServerClient for Line {
    fn namespace(&self) -> &Name {
        &self.namespace
    }

    async fn create_run(&self, mut request: CreateRun) -> Result<CreatedRun, ServerError> {
        let world = &self.world;
        let key = request.reference.as_ref().map(|reference| format!("{} {}", request.workflow, reference.id));
        if world.bug == Some(Bug::NoKeys) {
            request.reference = None;
        }
        if world.bug == Some(Bug::LostCreate) && world.chance.happens(200) {
            let id = RunId::from_bits((u128::from(world.next_number()) + 1) << 24);
            world.note(What::Created { run: id, key });
            return Ok(CreatedRun { id, existed: false });
        }
        self.call(|server| async move {
            let created = server.create_run(request).await?;
            world.note(What::Created { run: created.id, key });
            Ok(created)
        })
        .await
    }

    async fn get_run(&self, run: RunId) -> Result<RunRecord, ServerError> {
        self.call(|server| async move { server.get_run(run).await }).await
    }

    async fn get_run_by_reference(&self, workflow: &WorkflowKey, reference: &str) -> Result<RunRecord, ServerError> {
        self.call(|server| async move { server.get_run_by_reference(workflow, reference).await }).await
    }

    async fn await_run(&self, run: RunId, timeout: Duration) -> Result<RunView, ServerError> {
        self.call(|server| async move { server.await_run(run, timeout).await }).await
    }

    async fn list_transitions(&self, run: RunId) -> Result<Vec<TransitionRecord>, ServerError> {
        self.call(|server| async move { server.list_transitions(run).await }).await
    }

    async fn list_runs(&self, filter: RunFilter, page: RunPageRequest) -> Result<RunPage, ServerError> {
        self.call(|server| async move { server.list_runs(filter, page).await }).await
    }

    async fn count_runs(&self, filter: RunFilter) -> Result<u64, ServerError> {
        self.call(|server| async move { server.count_runs(filter).await }).await
    }

    async fn list_workflows(&self, query: WorkflowsQuery) -> Result<WorkflowsPage, ServerError> {
        self.call(|server| async move { server.list_workflows(query).await }).await
    }

    async fn list_workflow_versions(&self, query: VersionsQuery) -> Result<VersionsPage, ServerError> {
        self.call(|server| async move { server.list_workflow_versions(query).await }).await
    }

    async fn run_stats(&self, workflow: Option<WorkflowFilter>) -> Result<StatusCounts, ServerError> {
        self.call(|server| async move { server.run_stats(workflow).await }).await
    }

    async fn export_run(&self, run: RunId) -> Result<RunExport, ServerError> {
        self.call(|server| async move { server.export_run(run).await }).await
    }

    async fn cancel_run(&self, run: RunId, explanation: Option<String>) -> Result<(), ServerError> {
        self.call(|server| async move {
            server.cancel_run(run, explanation).await?;
            self.world.note(What::Cancelled { run });
            Ok(())
        })
        .await
    }

    async fn claim_runs(&self, request: ClaimRuns) -> Result<Vec<ClaimOutcome>, ServerError> {
        let runs = request.runs.clone();
        self.call(|server| async move {
            let mut outcomes = server.claim_runs(request).await?;
            for (run, outcome) in runs.into_iter().zip(&mut outcomes) {
                match outcome {
                    ClaimOutcome::Granted(claimed) => self.granted(claimed),
                    ClaimOutcome::Done => self.world.note(What::Done { run, worker: self.process.name() }),
                    ClaimOutcome::Owned { .. } => self.world.took("a delivery met a live claim"),
                }
            }
            Ok(outcomes)
        })
        .await
    }

    async fn claim_ready(&self, request: ClaimReady) -> Result<Vec<ClaimedRun>, ServerError> {
        if self.world.bug == Some(Bug::NoDelivery) {
            return Ok(Vec::new());
        }
        self.call(|server| async move {
            let mut claimed = server.claim_ready(request).await?;
            for one in &mut claimed {
                self.granted(one);
                self.world.took("a run was claimed without the transport");
            }
            Ok(claimed)
        })
        .await
    }

    async fn refresh_runs(
        &self,
        worker: &Name,
        claims: &[ClaimRef],
        lease: Duration,
    ) -> Result<Vec<ClaimStatus>, ServerError> {
        self.call(|server| async move {
            let answers = server.refresh_runs(worker, claims, lease).await?;
            for (claim, _) in claims.iter().zip(&answers).filter(|(_, answer)| **answer == ClaimStatus::Lost) {
                self.world.took("a heartbeat heard that its claim is gone");
                let (run, epoch) = (claim.run, claim.epoch);
                self.world.note(What::Lost { run, epoch, worker: worker.clone() });
            }
            Ok(answers)
        })
        .await
    }

    async fn release_runs(&self, worker: &Name, claims: &[ClaimRef]) -> Result<Vec<ClaimStatus>, ServerError> {
        self.call(|server| async move {
            let answers = server.release_runs(worker, claims).await?;
            for (claim, _) in claims.iter().zip(&answers).filter(|(_, answer)| **answer == ClaimStatus::Held) {
                self.world.took("a claim was given back");
                let (run, epoch) = (claim.run, claim.epoch);
                self.world.note(What::Released { run, epoch, worker: worker.clone() });
            }
            Ok(answers)
        })
        .await
    }

    async fn report(&self, report: Report) -> Result<ReportReceipt, ServerError> {
        let (world, worker) = (&self.world, self.process.name());
        let (run, epoch, seq, written) = (report.run, report.epoch, report.seq, Written::of(&report));
        world.note(What::Sent { run, epoch, seq, worker: worker.clone() });
        self.call(|server| async move {
            let mut answer = server.report(report.clone()).await;
            if world.bug == Some(Bug::NoFence) && matches!(answer, Err(ServerError::ClaimLost(_))) {
                let epoch = lock(&world.granted).get(&run).copied().unwrap_or(epoch);
                answer = server.report(Report { epoch, seq: 1_000 + world.next_number(), ..report }).await;
            }
            match &answer {
                Ok(_) => world.note(What::Reported { run, epoch, seq, worker, written }),
                Err(ServerError::ClaimLost(_)) => {
                    world.took("a report under an old claim was refused");
                    world.note(What::Refused { run, epoch, worker });
                }
                Err(_) => {}
            }
            answer
        })
        .await
    }

    async fn list_workers(&self) -> Result<Vec<WorkerInfo>, ServerError> {
        self.call(|server| async move { server.list_workers().await }).await
    }

    async fn send_event(&self, request: SendEvent) -> Result<(), ServerError> {
        self.call(|server| async move { server.send_event(request).await }).await
    }

    async fn cancel_runs(&self, runs: &[RunId]) -> Result<Vec<RunId>, ServerError> {
        self.call(|server| async move {
            let cancelled = server.cancel_runs(runs).await?;
            for run in &cancelled {
                self.world.took("children were cancelled after their parent");
                self.world.note(What::Cancelled { run: *run });
            }
            Ok(cancelled)
        })
        .await
    }

    async fn command_run(&self, run: RunId, command: RunCommand) -> Result<(), ServerError> {
        self.call(|server| async move {
            server.command_run(run, command).await?;
            self.world.note(What::Intervened { run });
            Ok(())
        })
        .await
    }

    async fn set_task_result(&self, request: SetTaskResult) -> Result<(), ServerError> {
        self.call(|server| async move { server.set_task_result(request).await }).await
    }

    async fn list_child_runs(&self, run: RunId, statuses: &[RunStatus]) -> Result<Vec<ChildRun>, ServerError> {
        self.call(|server| async move { server.list_child_runs(run, statuses).await }).await
    }

    async fn get_signals(&self, run: RunId, known: u32) -> Result<Vec<Signal>, ServerError> {
        self.call(|server| async move { server.get_signals(run, known).await }).await
    }

    async fn announce_worker(&self, worker: &Name, serves: WorkerServes) -> Result<(), ServerError> {
        self.call(|server| async move { server.announce_worker(worker, serves).await }).await
    }

    async fn await_news(&self, worker: &Name, timeout: Duration) -> Result<Vec<RunId>, ServerError> {
        // A call that waits is no place to die at: it changes nothing.
        self.process.alive().await;
        let news = self.ask(|server| async move { server.await_news(worker, timeout).await }).await;
        self.process.alive().await;
        news
    }

    async fn activate_schedule(&self, request: ActivateSchedule) -> Result<ScheduleRecord, ServerError> {
        self.call(|server| async move { server.activate_schedule(request).await }).await
    }

    async fn get_schedule(&self, schedule: ScheduleId) -> Result<ScheduleRecord, ServerError> {
        self.call(|server| async move { server.get_schedule(schedule).await }).await
    }

    async fn get_schedule_by_reference(&self, reference: &str) -> Result<ScheduleRecord, ServerError> {
        self.call(|server| async move { server.get_schedule_by_reference(reference).await }).await
    }

    async fn list_schedules(
        &self,
        filter: ScheduleFilter,
        limit: usize,
        offset: usize,
    ) -> Result<SchedulePage, ServerError> {
        self.call(|server| async move { server.list_schedules(filter, limit, offset).await }).await
    }

    async fn set_schedule_status(
        &self,
        schedule: ScheduleId,
        status: ScheduleStatus,
    ) -> Result<ScheduleRecord, ServerError> {
        self.call(|server| async move { server.set_schedule_status(schedule, status).await }).await
    }
}

impl Line {
    /// A client over a line of its own.
    pub(crate) fn client(world: &Arc<World>, process: &Arc<Process>) -> aiki_core::Client {
        let namespace = Name::new("default");
        aiki_core::Client::new(Line { world: Arc::clone(world), process: Arc::clone(process), namespace })
    }
}
