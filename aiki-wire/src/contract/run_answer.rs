//! What is answered about runs besides their record.

use std::collections::BTreeMap;

use aiki_core::id::TransitionId;
use aiki_core::name::Name;
use aiki_core::run::plan::plain::TransitionedRun;
use aiki_core::run::record::{TransitionChange, TransitionRecord};
use aiki_core::run::status::{RunStatus, TaskStatus};
use aiki_core::run::{RunOptions, RunState};
use aiki_core::server_client::ChildRun;
use aiki_core::{RunId, TaskId, Timestamp};
use serde::{Deserialize, Serialize};

use super::task_answer::TaskStateAnswer;

/// What `createV1` answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatedRun {
    /// The run.
    pub id: RunId,
}

/// What `getStateV1` answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FoundState {
    /// The state.
    pub state: RunState,
}

/// What `transitionStateV1` answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunAfter {
    /// The revision after the transition.
    pub revision: u64,
    /// The state after the transition.
    pub state: RunState,
    /// Attempts of the run, the first included.
    pub attempts: u64,
}

impl From<TransitionedRun> for RunAfter {
    fn from(TransitionedRun { revision, state, attempts }: TransitionedRun) -> Self {
        Self { revision, state, attempts }
    }
}

/// What `listV1` answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunList {
    /// The runs.
    pub runs: Vec<RunSummary>,
    /// How many fit in all.
    pub total: u64,
}

/// A run in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunSummary {
    /// Its id.
    pub id: RunId,
    /// The workflow's name.
    pub name: Name,
    /// The workflow's version.
    pub version_id: Name,
    /// When it was created.
    pub created_at: Timestamp,
    /// Where it stands.
    pub status: RunStatus,
    /// The caller's own id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference_id: Option<String>,
    /// Its tasks, counted, where it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_counts: Option<BTreeMap<TaskStatus, u64>>,
}

/// What `listTransitionsV1` answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TransitionList {
    /// The transitions.
    pub transitions: Vec<TransitionAnswer>,
    /// How many there are in all.
    pub total: u64,
}

/// A transition of a run or of one of its tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TransitionAnswer {
    /// Its id.
    pub id: TransitionId,
    /// When it happened.
    pub created_at: Timestamp,
    /// The attempt of the run or of the task.
    pub attempt: u64,
    /// Whose transition it is.
    pub r#type: TransitionKind,
    /// The run's state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<RunState>,
    /// The task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<TaskId>,
    /// The task's state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_state: Option<TaskStateAnswer>,
}

/// Whose transition it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "named as what they are")]
pub enum TransitionKind {
    WorkflowRun,
    Task,
}

impl From<TransitionRecord> for TransitionAnswer {
    fn from(TransitionRecord { id, created_at, attempt, change }: TransitionRecord) -> Self {
        let (r#type, state, task_id, task_state) = match change {
            TransitionChange::Run(state) => (TransitionKind::WorkflowRun, Some(state), None, None),
            TransitionChange::Task(task, state) => (TransitionKind::Task, None, Some(task), Some(state.into())),
        };
        Self { id, created_at, attempt, r#type, state, task_id, task_state }
    }
}

/// What the multicasts answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MulticastAnswer {
    /// The runs that have the event, by the ids that were asked for.
    pub sent_ids: Vec<String>,
    /// The runs that do not.
    pub failed_ids: Vec<String>,
}

/// What `listChildRunsV1` answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChildList {
    /// The children.
    pub runs: Vec<ChildSummary>,
}

/// A child in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChildSummary {
    /// Its id.
    pub id: RunId,
    /// Its pool, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<RunOptions>,
}

impl From<ChildRun> for ChildSummary {
    fn from(child: ChildRun) -> Self {
        Self { id: child.run, options: child.pool.map(|pool| RunOptions { retry: None, pool: Some(pool) }) }
    }
}

/// What `cancelByIdsV1` answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CancelledRuns {
    /// The runs that had not ended and are cancelled now.
    pub cancelled_ids: Vec<RunId>,
}

/// What `claimReadyV1` answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadyRuns {
    /// The runs.
    pub runs: Vec<CreatedRun>,
}

/// What `hasTerminatedV1` answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Terminated {
    /// Whether the run has ended behind the given transition.
    pub terminated: bool,
    /// The run's latest transition.
    pub latest_state_transition_id: TransitionId,
}
