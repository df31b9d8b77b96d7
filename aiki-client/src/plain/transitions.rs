//! The transitions of a run, and what an operator does to its tasks.

use std::num::NonZeroU64;

use aiki_core::listing::MAX_PAGE;
use aiki_core::run::plan::TaskTarget;
use aiki_core::run::record::{TransitionChange, TransitionRecord};
use aiki_core::server_client::SetTaskResult;
use aiki_core::{RunId, ServerError, TaskId};
use aiki_wire::contract::common::{Order, Sort};
use aiki_wire::contract::run_answer::{TransitionAnswer, TransitionList};
use aiki_wire::contract::run_request::ListTransitions;
use aiki_wire::contract::task_answer::FoundTask;
use aiki_wire::contract::task_request::SetTaskState;
use aiki_wire::error::ErrorCode;
use aiki_wire::read::Str1;

use super::Plain;
use super::calls::Id;
use crate::http::{Failure, Repeat};

/// A run with more transitions is not listed.
const MOST: usize = 100_000;

impl Plain {
    /// All of them, page by page: they only ever come at the end.
    pub(super) async fn transitions(&self, run: RunId) -> Result<Vec<TransitionRecord>, ServerError> {
        let mut all = Vec::new();
        while let Some(id) = Str1::new(run.to_string()) {
            let call = ListTransitions {
                id,
                limit: NonZeroU64::new(MAX_PAGE as u64),
                offset: Some(all.len() as u64),
                sort: Some(Sort { order: Order::Asc }),
            };
            let page: TransitionList = self.about(run, "workflowRun/listTransitionsV1", &call, Repeat::Safe).await?;
            let last = page.transitions.is_empty();
            for answer in page.transitions {
                all.push(transition(answer)?);
            }
            if last || all.len() as u64 >= page.total {
                break;
            }
            if all.len() >= MOST {
                let text = format!("run {run} has more than {MOST} transitions: look at its record instead");
                return Err(ServerError::Invalid(text));
            }
        }
        Ok(all)
    }

    pub(super) async fn set_result(&self, request: SetTaskResult) -> Result<(), ServerError> {
        let SetTaskResult { mut run, target, result } = request;
        let mut found = None;
        if let TaskTarget::Existing(task) = &target {
            let (of, open) = self.find_task(run, *task).await?;
            (run, found) = (of, Some((*task, open)));
        }
        let Some(call) = SetTaskState::of(SetTaskResult { run, target, result }) else {
            return Err(ServerError::Invalid("the task has no name: give it the one in the code".into()));
        };
        let Err(gave_up) = self.post::<Option<()>>("task/setStateV1", &call, Repeat::Unsafe).await else {
            return Ok(());
        };
        Err(match (&gave_up.failure, found) {
            (Failure::Coded(ErrorCode::RunTerminated, _), _) => {
                ServerError::RunEnded { run, status: self.state(run).await?.status() }
            }
            (Failure::Coded(ErrorCode::NotFound, _), None) => ServerError::RunNotFound(run),
            (Failure::Coded(ErrorCode::NotFound, _), Some((task, _))) => ServerError::TaskNotFound(task),
            (Failure::Coded(ErrorCode::TaskStateConflict, _), Some((task, _))) => ServerError::TaskStateConflict(task),
            // One code says both: of a task that is under way it is the result that is wrong.
            (Failure::Coded(ErrorCode::BadRequest, text), Some((_, false))) => {
                ServerError::IllegalTransition(text.clone())
            }
            _ => self.http.shared.error(gave_up),
        })
    }

    /// The run of a task, which the ids of other servers do not tell, and whether the task is under way.
    async fn find_task(&self, run: RunId, task: TaskId) -> Result<(RunId, bool), ServerError> {
        let call = Id { id: task.to_string() };
        let found = match self.post::<FoundTask>("task/getByIdV1", &call, Repeat::Safe).await {
            Ok(FoundTask { task }) => task,
            Err(gave_up) if matches!(gave_up.failure, Failure::Coded(ErrorCode::NotFound, _)) => {
                return Err(ServerError::TaskNotFound(task));
            }
            Err(gave_up) => return Err(self.http.shared.error(gave_up)),
        };
        let of = found.workflow_run_id;
        // Callers who know only the task name the run by it.
        let meant = of == run || run == task.run();
        let open = found.state.status == aiki_core::run::TaskStatus::Running;
        if meant { Ok((of, open)) } else { Err(ServerError::TaskNotFound(task)) }
    }
}

/// Tasks go by the ids that the server gave them.
fn transition(answer: TransitionAnswer) -> Result<TransitionRecord, ServerError> {
    let TransitionAnswer { id, created_at, attempt, state, task_id, task_state, .. } = answer;
    let change = match (state, task_id, task_state) {
        (Some(state), None, None) => TransitionChange::Run(state),
        (None, Some(task), Some(state)) => {
            let state = state.try_into();
            TransitionChange::Task(task, state.map_err(|error| unreadable(id, &error))?)
        }
        _ => return Err(unreadable(id, &"it is neither of a run nor of a task")),
    };
    Ok(TransitionRecord { id, created_at, attempt, change })
}

fn unreadable(id: impl std::fmt::Display, why: &impl std::fmt::Display) -> ServerError {
    ServerError::Internal(format!("the server's transition {id} cannot be read: {why}"))
}
