//! What a list shows of a run.

use serde::{Deserialize, Serialize};

use crate::id::{RunId, ScheduleId};
use crate::name::{Name, WorkflowKey};
use crate::rank::Priority;
use crate::run::{RunHead, RunStatus, TaskCounts};
use crate::time::Timestamp;

/// A run in a list: nothing of it grows with the run's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunSummary {
    /// The run's id.
    pub id: RunId,
    /// The code that it executes.
    pub workflow: WorkflowKey,
    /// Where it stands.
    pub status: RunStatus,
    /// When it was created.
    pub created_at: Timestamp,
    /// When a worker first took it; `None` also where the server does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended; `None` while it goes on, and where the server does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// The caller's own id for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference_id: Option<String>,
    /// The schedule that started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleId>,
    /// The run that started it as its child.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<RunId>,
    /// Attempts of the run, the first included; 0 where the server does not tell.
    pub attempts: u64,
    /// Its tasks by status, since it was created or last continued as new.
    pub tasks: TaskCounts,
    /// The pool that it is reserved for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<Name>,
    /// How urgent it is.
    pub priority: Priority,
}

impl RunSummary {
    /// What a list shows of the run with this head.
    pub fn of(head: &RunHead) -> Self {
        Self {
            id: head.id,
            workflow: head.workflow.clone(),
            status: head.state.status(),
            created_at: head.created_at,
            started_at: head.started_at,
            ended_at: head.ended_at,
            reference_id: crate::run::shown_reference(head.reference_id.as_ref()),
            schedule: head.schedule,
            parent: head.parent,
            attempts: head.attempts,
            tasks: head.counts,
            pool: head.pool().cloned(),
            priority: head.priority,
        }
    }
}
