//! From our transitions to the contract's.

use std::time::Duration;

use aiki_core::report::ChildStart;
use aiki_core::run::WaitOn;
use aiki_core::run::plan::CreateRun;
use aiki_core::run::state::FailureCause;
use aiki_core::time::ceil_millis;
use aiki_core::{Report, ReportReceipt, RunId, ServerError, TaskId, Transition};
use aiki_wire::contract::run_answer::{CreatedRun, RunAfter};
use aiki_wire::contract::run_record::FoundRun;
use aiki_wire::contract::task_answer::TransitionedTask;
use aiki_wire::error::ErrorCode;

use super::Plain;
use super::calls::{Create, Id, MoveRun, MoveTask, Options, Parent, State, TaskState};
use super::held::{Held, Waiting};
use super::record::events;
use super::unsupported::{continuing, deadline};
use crate::http::{Failure, GaveUp, Repeat};

/// The sleep of a run that has to be looked at again at once. Code that sleeps under another name never sees it.
pub(super) const AGAIN: &str = "aiki/again";

/// What a transition leads to.
enum Next {
    GoOn,
    /// The claim ends.
    Over,
}

impl Plain {
    /// Writes a report, transition by transition. What was written before a failure is not written again when the
    /// same report comes again; when it is open whether one was written, the claim is given up. After a refusal the
    /// claim stands, so that the worker can fail the run.
    pub(super) async fn write(&self, report: Report) -> Result<ReportReceipt, ServerError> {
        let run = report.run;
        let Some((mut held, _taken)) = self.claims().take(run, report.epoch) else {
            let repeated = self.claims().ended(run, report.epoch, report.seq);
            return repeated.ok_or(ServerError::ClaimLost(run));
        };
        if let Err(refused) = check(&report, &held) {
            self.claims().put(run, held);
            return Err(refused);
        }
        if let Some((_, receipt)) = held.last.clone().filter(|(seq, _)| *seq == report.seq) {
            self.claims().put(run, held);
            return Ok(receipt);
        }
        if held.writing.0 != report.seq {
            held.writing = (report.seq, 0);
            held.started = Vec::new();
        }
        for transition in report.transitions.into_iter().skip(held.writing.1) {
            match self.step(run, &mut held, transition).await {
                Ok(Next::GoOn) => held.writing.1 += 1,
                Ok(Next::Over) => {
                    let receipt = receipt(&held);
                    self.claims().end(run, report.epoch, report.seq, receipt.clone());
                    return Ok(receipt);
                }
                Err(gave_up @ GaveUp { failure: Failure::Unsent { .. } | Failure::Missing, .. }) => {
                    self.claims().put(run, held);
                    return Err(self.http.shared.judgement(gave_up));
                }
                Err(GaveUp { failure: Failure::Lost(reason) | Failure::Foreign(reason), .. }) => {
                    tracing::warn!(%run, reason, "it is open whether a step was written: the run is begun again");
                    return Err(ServerError::ClaimLost(run));
                }
                Err(gave_up) => {
                    let judged = matches!(gave_up.failure, Failure::Coded(ErrorCode::BadRequest, _));
                    let error = self.error(run, gave_up);
                    // Whether the run may go there is judged before its revision is: it may have moved on.
                    if judged && self.fetch(run).await.is_ok_and(|fresh| fresh.revision != held.revision) {
                        return Err(ServerError::ClaimLost(run));
                    }
                    if !matches!(error, ServerError::ClaimLost(_) | ServerError::RunNotFound(_)) {
                        self.claims().put(run, held);
                    }
                    return Err(error);
                }
            }
        }
        let receipt = receipt(&held);
        held.last = Some((report.seq, receipt.clone()));
        self.claims().put(run, held);
        Ok(receipt)
    }

    async fn step(&self, run: RunId, held: &mut Held, transition: Transition) -> Result<Next, GaveUp> {
        let attempts_of = |status, attempts| TaskState { status, attempts, ..TaskState::default() };
        match transition {
            Transition::TaskOpened { name, input_hash, input, retry, .. } => {
                let call = MoveTask {
                    r#type: Some("create"),
                    task_name: Some(name),
                    options: Some(Options::retry(retry)),
                    input,
                    input_hash: Some(input_hash),
                    ..self.task_call(run, held)
                };
                let answer: TransitionedTask = self.post("task/transitionStateV1", &call, Repeat::Unsafe).await?;
                held.tasks.push(answer.task_info.id);
            }
            Transition::TaskRestarted { id, attempts } => {
                let state = attempts_of("running", attempts);
                self.task(run, held, id, Some("retry"), state).await?;
            }
            Transition::TaskParked { id, attempts, error, retry_in } => {
                let next_attempt_in_ms = Some(ceil_millis(retry_in).max(1));
                let state =
                    TaskState { error: Some(error), next_attempt_in_ms, ..attempts_of("awaiting_retry", attempts) };
                self.task(run, held, id, None, state).await?;
                held.parked = true;
            }
            Transition::TaskCompleted { id, attempts, output } => {
                let state = TaskState { output, ..attempts_of("completed", attempts) };
                self.task(run, held, id, None, state).await?;
            }
            Transition::TaskFailed { id, attempts, error } => {
                let state = TaskState { error: Some(error), ..attempts_of("failed", attempts) };
                self.task(run, held, id, None, state).await?;
            }
            Transition::SleepOpened { ordinal, name, duration } => {
                held.waiting.push(Waiting::Sleep { ordinal, name, duration });
            }
            Transition::SleepCompleted { ordinal: over } | Transition::SleepDropped { ordinal: over } => {
                held.waiting.retain(|step| !matches!(step, Waiting::Sleep { ordinal, .. } if *ordinal == over));
            }
            Transition::WaitOpened { ordinal, on: WaitOn::Event(name), timeout, .. } => {
                held.waiting.push(Waiting::Event { ordinal, name, timeout });
            }
            Transition::WaitOpened { ordinal, on: WaitOn::Child(child), run, timeout } => {
                let run = run.or_else(|| held.children.get(child as usize).copied());
                held.waiting.push(Waiting::Child { ordinal, run, timeout });
            }
            Transition::WaitCompleted { ordinal: over, .. }
            | Transition::WaitTimedOut { ordinal: over }
            | Transition::WaitDropped { ordinal: over } => held.waiting.retain(|step| match step {
                Waiting::Event { ordinal, .. } | Waiting::Child { ordinal, .. } => *ordinal != over,
                Waiting::Sleep { .. } => true,
            }),
            Transition::ChildOpened { start, .. } => self.start_child(run, held, *start).await?,
            Transition::ChildCancelled { ordinal, run: child } => {
                if let Some(child) = child.or_else(|| held.children.get(ordinal as usize).copied()) {
                    let call = MoveRun::anyhow(child, State::of("cancelled"));
                    let cancelled = self.post::<RunAfter>("workflowRun/transitionStateV1", &call, Repeat::Safe).await;
                    // One that has ended is refused.
                    if let Err(gave_up) = cancelled
                        && !matches!(gave_up.failure, Failure::Coded(..))
                    {
                        return Err(gave_up);
                    }
                }
            }
            // There is no place for these.
            Transition::TimeRead { .. } | Transition::TaskProgressed { .. } => {}
            Transition::Suspended if held.parked => return Ok(Next::Over),
            Transition::Suspended => {
                let state = self.suspension(run, held).await?;
                return self.over(run, held, state).await;
            }
            Transition::Completed { output } => {
                return self.over(run, held, State { output, ..State::of("completed") }).await;
            }
            Transition::Failed { cause } => {
                let state = caused(State::of("failed"), cause, held);
                return self.over(run, held, state).await;
            }
            Transition::RetryScheduled { cause, retry_in } => {
                let next_attempt_in_ms = Some(ceil_millis(retry_in).max(1));
                let state = caused(State { next_attempt_in_ms, ..State::of("awaiting_retry") }, cause, held);
                return self.over(run, held, state).await;
            }
            Transition::ContinuedAsNew { .. } => return Err(GaveUp::refused(continuing())),
        }
        Ok(Next::GoOn)
    }

    /// Of several steps the one that is due first is parked; the others begin again when the run goes on.
    async fn suspension(&self, run: RunId, held: &Held) -> Result<State, GaveUp> {
        let waits_for_event = held.waiting.iter().any(|step| matches!(step, Waiting::Event { .. }));
        if waits_for_event {
            let call = Id { id: run.to_string() };
            let found: Result<FoundRun, _> = self.post("workflowRun/getByIdV1", &call, Repeat::Safe).await;
            let fresh = found.map_err(|gave_up| GaveUp::refused(self.judgement(run, gave_up)))?.run;
            if events(&fresh).len() > held.events {
                // One has come meanwhile: the server would not wake the run for it.
                return Ok(State::sleeping(AGAIN, 1));
            }
        }
        let due = |step: &Waiting| match step {
            Waiting::Sleep { duration, .. } => *duration,
            Waiting::Event { timeout, .. } | Waiting::Child { timeout, .. } => timeout.unwrap_or(Duration::MAX),
        };
        let ms = |timeout: &Option<Duration>| timeout.map(|timeout| ceil_millis(timeout).max(1));
        Ok(match held.waiting.iter().min_by_key(|step| due(step)) {
            None => State::sleeping(AGAIN, 1),
            Some(Waiting::Sleep { name, duration, .. }) => State::sleeping(name, ceil_millis(*duration)),
            Some(Waiting::Event { name, timeout, .. }) => {
                let event_name = Some(name.clone());
                State { event_name, timeout_in_ms: ms(timeout), ..State::of("awaiting_event") }
            }
            Some(Waiting::Child { run: Some(child), timeout, .. }) => State {
                child_workflow_run_id: Some(child.to_string()),
                child_workflow_run_status: Some("completed"),
                timeout_in_ms: ms(timeout),
                ..State::of("awaiting_child_workflow")
            },
            Some(Waiting::Child { run: None, .. }) => State::sleeping(AGAIN, 1_000),
        })
    }

    async fn over(&self, run: RunId, held: &mut Held, state: State) -> Result<Next, GaveUp> {
        let call = MoveRun::expecting(run, held.revision, state);
        let after: RunAfter = self.post("workflowRun/transitionStateV1", &call, Repeat::Unsafe).await?;
        held.revision = after.revision;
        Ok(Next::Over)
    }

    fn task_call(&self, run: RunId, held: &Held) -> MoveTask {
        MoveTask {
            workflow_run_id: run,
            expected_workflow_run_revision: held.revision,
            r#type: None,
            id: None,
            task_name: None,
            options: None,
            input: None,
            input_hash: None,
            task_state: None,
        }
    }

    async fn task(
        &self,
        run: RunId,
        held: &Held,
        id: TaskId,
        kind: Option<&'static str>,
        state: TaskState,
    ) -> Result<(), GaveUp> {
        let Some(theirs) = held.tasks.get(id.ordinal() as usize) else {
            return Err(GaveUp::refused(ServerError::TaskNotFound(id)));
        };
        let call = MoveTask {
            r#type: kind,
            id: Some(theirs.to_string()),
            options: kind.map(|_| Options::default()),
            task_state: Some(state),
            ..self.task_call(run, held)
        };
        self.post::<TransitionedTask>("task/transitionStateV1", &call, Repeat::Unsafe).await.map(drop)
    }

    async fn start_child(&self, run: RunId, held: &mut Held, start: ChildStart) -> Result<(), GaveUp> {
        let ChildStart { workflow, input, input_hash, reference, mut options, .. } = start;
        options.pool = options.pool.or_else(|| held.pool.clone());
        let request = CreateRun { reference, options: Some(options), ..CreateRun::new(workflow, input, input_hash) };
        let parent = Parent { workflow_run_id: run, expected_revision: held.revision };
        let call = Create::new(request, Some(parent));
        let created: CreatedRun = self.post("workflowRun/createV1", &call, Repeat::Unsafe).await?;
        held.children.push(created.id);
        held.started.push(Some(created.id));
        Ok(())
    }
}

/// What is refused before anything of it is written.
fn check(report: &Report, held: &Held) -> Result<(), ServerError> {
    if let Some((last, _)) = held.last.as_ref().filter(|(last, _)| report.seq < *last) {
        return Err(ServerError::Invalid(format!("report {} comes behind report {last}: count on", report.seq)));
    }
    for transition in &report.transitions {
        match transition {
            Transition::ContinuedAsNew { .. } => return Err(continuing()),
            Transition::ChildOpened { start, .. } if start.time_limit.is_some() => return Err(deadline()),
            _ => {}
        }
    }
    Ok(())
}

fn receipt(held: &Held) -> ReportReceipt {
    ReportReceipt { revision: held.revision, signals: held.signals(), children: held.started.clone() }
}

fn caused(state: State, cause: FailureCause, held: &Held) -> State {
    match cause {
        FailureCause::Task(task, _) if (task.ordinal() as usize) < held.tasks.len() => {
            let theirs = held.tasks[task.ordinal() as usize];
            State { cause: Some("task"), task_id: Some(theirs.to_string()), ..state }
        }
        FailureCause::ChildWorkflow(child, _) => {
            State { cause: Some("child_workflow"), child_workflow_run_id: Some(child.to_string()), ..state }
        }
        FailureCause::Own(error) => State { cause: Some("self"), error: Some(error), ..state },
        FailureCause::Task(_, error) => State { cause: Some("self"), error: Some(error.unwrap_or_default()), ..state },
    }
}
