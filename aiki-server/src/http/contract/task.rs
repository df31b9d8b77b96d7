//! Tasks.

use aiki_core::{ServerClient, ServerError};
use aiki_wire::contract::common::ById;
use aiki_wire::contract::task_answer::{FoundTask, TaskAnswer, TransitionedTask};
use aiki_wire::contract::task_request::{SetTaskState, TaskTransition};
use aiki_wire::contract::unknown::UnknownId;

use crate::http::refusal::Refusal;
use crate::local_client::LocalClient;

pub(super) async fn get(client: LocalClient, asked: ById) -> Result<FoundTask, Refusal> {
    let id = UnknownId::task(&asked.id)?;
    let record = match client.get_run(id.run()).await {
        Err(ServerError::RunNotFound(_)) => return Err(ServerError::TaskNotFound(id).into()),
        record => record?,
    };
    let run = record.id;
    let found = record.tasks.into_iter().find(|task| task.id == id).ok_or(ServerError::TaskNotFound(id))?;
    Ok(FoundTask { task: TaskAnswer::of(run, found) })
}

pub(super) async fn transition(client: LocalClient, asked: TaskTransition) -> Result<TransitionedTask, Refusal> {
    let (run, expected) = (asked.run.clone(), asked.expected_revision);
    let moved = match asked.into_core() {
        Ok(moved) => moved,
        // A run that is not there, or has moved on, goes before a task that is not there.
        Err(unknown) => {
            let run = UnknownId::run(&run)?;
            let actual = client.load(run).await?.head.revision;
            let conflict = ServerError::RevisionConflict { run, expected, actual };
            return Err(if actual == expected { unknown.into() } else { conflict.into() });
        }
    };
    let task = client.transition_task(moved).await?;
    Ok(TransitionedTask { task_info: task.into() })
}

pub(super) async fn set_state(client: LocalClient, asked: SetTaskState) -> Result<(), Refusal> {
    Ok(client.set_task_result(asked.into_core()?).await?)
}
