//! Tasks as they are answered.

use aiki_core::failure::ErrorObject;
use aiki_core::hash::InputHash;
use aiki_core::payload::present;
use aiki_core::retry::RetryStrategy;
use aiki_core::run::status::TaskStatus;
use aiki_core::run::{TaskRecord, TaskState};
use aiki_core::{Payload, RunId, TaskId, Timestamp};
use serde::{Deserialize, Serialize};

/// The state of a task, flat: serde's tagged forms would rewrite raw payloads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskStateAnswer {
    /// Where it stands.
    pub status: TaskStatus,
    /// Attempts begun.
    pub attempts: u64,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorObject>,
    /// When it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<Timestamp>,
    /// What it returned.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub output: Option<Payload>,
}

impl From<TaskState> for TaskStateAnswer {
    fn from(state: TaskState) -> Self {
        let (status, attempts) = (state.status(), state.attempts());
        let mut answer = Self { status, attempts, error: None, next_attempt_at: None, output: None };
        match state {
            TaskState::Running { .. } | TaskState::Discarded { .. } => {}
            TaskState::AwaitingRetry { error, next_attempt_at, .. } => {
                (answer.error, answer.next_attempt_at) = (Some(error), Some(next_attempt_at));
            }
            TaskState::Completed { output, .. } => answer.output = output,
            TaskState::Failed { error, .. } => answer.error = Some(error),
        }
        answer
    }
}

/// The state lacks a field that its status needs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a task's state lacks `{0}`")]
pub struct IncompleteState(&'static str);

impl TryFrom<TaskStateAnswer> for TaskState {
    type Error = IncompleteState;

    fn try_from(answer: TaskStateAnswer) -> Result<Self, IncompleteState> {
        let TaskStateAnswer { status, attempts, error, next_attempt_at, output } = answer;
        let error = error.ok_or(IncompleteState("error"));
        Ok(match status {
            TaskStatus::Running => TaskState::Running { attempts },
            TaskStatus::AwaitingRetry => TaskState::AwaitingRetry {
                attempts,
                error: error?,
                next_attempt_at: next_attempt_at.ok_or(IncompleteState("nextAttemptAt"))?,
            },
            TaskStatus::Completed => TaskState::Completed { attempts, output },
            TaskStatus::Failed => TaskState::Failed { attempts, error: error? },
            TaskStatus::Discarded => TaskState::Discarded { attempts },
        })
    }
}

/// A task inside of a run's record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskInfo {
    /// Its id.
    pub id: TaskId,
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub state: TaskStateAnswer,
    /// The hash of its input.
    pub input_hash: InputHash,
}

impl From<TaskRecord> for TaskInfo {
    fn from(task: TaskRecord) -> Self {
        Self { id: task.id, name: task.name, state: task.state.into(), input_hash: task.input_hash }
    }
}

/// What `task.transitionStateV1` answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TransitionedTask {
    /// The task.
    pub task_info: TaskInfo,
}

/// What `task.getByIdV1` answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FoundTask {
    /// The task.
    pub task: TaskAnswer,
}

/// A task by itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskAnswer {
    /// Its id.
    pub id: TaskId,
    /// Its name.
    pub name: String,
    /// Its run.
    pub workflow_run_id: RunId,
    /// Its input; `null` when there is none.
    #[serde(default, deserialize_with = "present")]
    pub input: Option<Payload>,
    /// The hash of its input.
    pub input_hash: InputHash,
    /// Its options when it was opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<TaskOptionsAnswer>,
    /// Where it stands.
    pub state: TaskStateAnswer,
}

/// Options of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskOptionsAnswer {
    /// How it is retried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryStrategy>,
}

impl TaskAnswer {
    /// The task of a run.
    pub fn of(run: RunId, task: TaskRecord) -> Self {
        Self {
            id: task.id,
            name: task.name,
            workflow_run_id: run,
            input: task.input,
            input_hash: task.input_hash,
            options: task.retry.map(|retry| TaskOptionsAnswer { retry: Some(retry) }),
            state: task.state.into(),
        }
    }
}
