//! A run as one JSON document: for people, for other programs, and to be replayed elsewhere. The format is described
//! in docs/export.md.

use serde::{Deserialize, Serialize};

use super::head::RunHead;
use super::history::HistoryEntry;
use super::record::{RunRecord, TransitionChange, TransitionRecord, transitions};
use super::state::{RunState, TaskState};
use super::status::TaskStatus;
use crate::failure::ErrorObject;
use crate::id::{TaskId, TransitionId};
use crate::payload::Payload;
use crate::time::Timestamp;

/// The version of the format that is written.
pub const FORMAT: u32 = 1;

/// A run with its whole history, as far as the run still has it: what came before it last continued as new is gone.
#[derive(Clone, Debug, PartialEq)]
pub struct RunExport {
    /// When it was exported, by the server's clock.
    pub exported_at: Timestamp,
    /// All that does not grow with the history.
    pub head: RunHead,
    /// The history, oldest first.
    pub history: Vec<HistoryEntry>,
}

/// A document that is not an export that this version can read.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The format is not known here.
    #[error("the export has format {found}, this version reads formats up to {FORMAT}: use a newer version")]
    Format {
        /// The format that was found.
        found: u32,
    },
    /// It is not an export, or something is missing.
    #[error("this is not the export of a run: {0}")]
    Json(#[from] serde_json::Error),
}

#[derive(Deserialize)]
struct Version {
    #[serde(rename = "aiki-export")]
    format: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    #[serde(rename = "aiki-export")]
    format: u32,
    exported_at: Timestamp,
    run: &'a RunHead,
    history: &'a [HistoryEntry],
    transitions: Vec<Transition>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Read {
    exported_at: Timestamp,
    run: RunHead,
    history: Vec<HistoryEntry>,
}

/// A transition as the contract lists it. It follows from the history: it is written for readers, and not read.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Transition {
    id: TransitionId,
    created_at: Timestamp,
    attempt: u64,
    #[serde(flatten)]
    change: Change,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
enum Change {
    WorkflowRun { state: RunState },
    Task { task_id: TaskId, task_state: TaskStateWire },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TaskStateWire {
    status: TaskStatus,
    attempts: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<Payload>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorObject>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt_at: Option<Timestamp>,
}

impl From<TaskState> for TaskStateWire {
    fn from(state: TaskState) -> Self {
        let (status, attempts) = (state.status(), state.attempts());
        let (output, error, next_attempt_at) = match state {
            TaskState::Completed { output, .. } => (output, None, None),
            TaskState::Failed { error, .. } => (None, Some(error), None),
            TaskState::AwaitingRetry { error, next_attempt_at, .. } => (None, Some(error), Some(next_attempt_at)),
            TaskState::Running { .. } | TaskState::Discarded { .. } => (None, None, None),
        };
        Self { status, attempts, output, error, next_attempt_at }
    }
}

impl From<TransitionRecord> for Transition {
    fn from(TransitionRecord { id, created_at, attempt, change }: TransitionRecord) -> Self {
        let change = match change {
            TransitionChange::Run(state) => Change::WorkflowRun { state },
            TransitionChange::Task(task_id, state) => Change::Task { task_id, task_state: state.into() },
        };
        Self { id, created_at, attempt, change }
    }
}

impl RunExport {
    /// The run's record, as [`get_run`](crate::ServerClient::get_run) answers it.
    pub fn record(&self) -> RunRecord {
        RunRecord::fold(&self.head, self.history.iter().cloned())
    }

    /// The run's transitions, oldest first.
    pub fn transitions(&self) -> Vec<TransitionRecord> {
        transitions(&self.head, self.history.iter().cloned())
    }

    /// The export as one line of JSON.
    ///
    /// # Errors
    /// What serde says; no run that a server keeps gives it a reason to.
    pub fn to_json(&self) -> Result<String, ExportError> {
        let transitions = self.transitions().into_iter().map(Transition::from).collect();
        let Self { exported_at, head: run, history } = self;
        Ok(serde_json::to_string(&Written { format: FORMAT, exported_at: *exported_at, run, history, transitions })?)
    }

    /// Reads an export.
    ///
    /// # Errors
    /// [`ExportError`] when it is of a later format or not an export.
    pub fn from_json(text: &str) -> Result<Self, ExportError> {
        let Version { format } = serde_json::from_str(text)?;
        if format == 0 || format > FORMAT {
            return Err(ExportError::Format { found: format });
        }
        let Read { exported_at, run: head, history } = serde_json::from_str(text)?;
        Ok(Self { exported_at, head, history })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_export_says_what_it_lacks() {
        let error = RunExport::from_json("{}").unwrap_err();
        assert!(error.to_string().contains("aiki-export"), "{error}");
        let error = RunExport::from_json(r#"{"aiki-export":1,"exportedAt":1}"#).unwrap_err();
        assert!(error.to_string().contains("`run`"), "{error}");
    }

    #[test]
    fn a_later_format_asks_for_a_newer_version() {
        for found in [0, 2] {
            let error = RunExport::from_json(&format!(r#"{{"aiki-export":{found},"run":7}}"#)).unwrap_err();
            assert!(matches!(error, ExportError::Format { found: said } if said == found), "{error}");
        }
    }
}
