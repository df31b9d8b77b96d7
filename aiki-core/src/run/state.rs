//! The state of a run and of a task, with what each state carries.

use serde::{Deserialize, Serialize};

use super::status::{QueuedReason, RunStatus, ScheduledReason, TaskStatus};
use crate::failure::ErrorObject;
use crate::id::{RunId, TaskId};
use crate::payload::{Payload, present};
use crate::time::Timestamp;

/// Why a run failed or is about to be retried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FailureCause {
    /// A task failed and the handler passed it on. The error is absent when a peer did not tell it.
    Task(TaskId, Option<ErrorObject>),
    /// A child run failed and the handler passed it on.
    ChildWorkflow(RunId, Option<ErrorObject>),
    /// The handler's own error.
    Own(ErrorObject),
}

impl FailureCause {
    /// The error, where one was told.
    pub fn error(&self) -> Option<&ErrorObject> {
        match self {
            FailureCause::Task(_, error) | FailureCause::ChildWorkflow(_, error) => error.as_ref(),
            FailureCause::Own(error) => Some(error),
        }
    }
}

/// The state of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "StateWire", try_from = "StateWire")]
#[allow(missing_docs, reason = "the fields are named as in the contract; RunStatus documents the states")]
pub enum RunState {
    Scheduled { scheduled_at: Timestamp, reason: ScheduledReason },
    Queued { reason: QueuedReason },
    Running,
    Paused,
    Stalled,
    Sleeping { name: String, wakeup_at: Timestamp },
    AwaitingEvent { event: String, timeout_at: Option<Timestamp> },
    AwaitingRetry { next_attempt_at: Timestamp, cause: FailureCause },
    AwaitingChild { child: RunId, awaited: RunStatus, timeout_at: Option<Timestamp> },
    Cancelled { explanation: Option<String> },
    Completed { output: Option<Payload> },
    Failed { cause: FailureCause },
}

impl RunState {
    /// The status alone.
    pub fn status(&self) -> RunStatus {
        match self {
            RunState::Scheduled { .. } => RunStatus::Scheduled,
            RunState::Queued { .. } => RunStatus::Queued,
            RunState::Running => RunStatus::Running,
            RunState::Paused => RunStatus::Paused,
            RunState::Stalled => RunStatus::Stalled,
            RunState::Sleeping { .. } => RunStatus::Sleeping,
            RunState::AwaitingEvent { .. } => RunStatus::AwaitingEvent,
            RunState::AwaitingRetry { .. } => RunStatus::AwaitingRetry,
            RunState::AwaitingChild { .. } => RunStatus::AwaitingChildWorkflow,
            RunState::Cancelled { .. } => RunStatus::Cancelled,
            RunState::Completed { .. } => RunStatus::Completed,
            RunState::Failed { .. } => RunStatus::Failed,
        }
    }

    /// Whether the run has ended.
    pub fn is_terminal(&self) -> bool {
        self.status().is_terminal()
    }
}

/// The state of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are named as in the contract; TaskStatus documents the states")]
pub enum TaskState {
    Running { attempts: u64 },
    AwaitingRetry { attempts: u64, error: ErrorObject, next_attempt_at: Timestamp },
    Completed { attempts: u64, output: Option<Payload> },
    Failed { attempts: u64, error: ErrorObject },
    Discarded { attempts: u64 },
}

impl TaskState {
    /// The status alone.
    pub fn status(&self) -> TaskStatus {
        match self {
            TaskState::Running { .. } => TaskStatus::Running,
            TaskState::AwaitingRetry { .. } => TaskStatus::AwaitingRetry,
            TaskState::Completed { .. } => TaskStatus::Completed,
            TaskState::Failed { .. } => TaskStatus::Failed,
            TaskState::Discarded { .. } => TaskStatus::Discarded,
        }
    }

    /// Attempts begun so far.
    pub fn attempts(&self) -> u64 {
        match self {
            TaskState::Running { attempts }
            | TaskState::AwaitingRetry { attempts, .. }
            | TaskState::Completed { attempts, .. }
            | TaskState::Failed { attempts, .. }
            | TaskState::Discarded { attempts } => *attempts,
        }
    }
}

/// The flat form of [`RunState`]: serde's tagged forms would parse and rewrite raw payloads.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StateWire {
    status: RunStatus,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<QueuedReason>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scheduled_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sleep_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wakeup_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    event_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next_attempt_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cause: Option<CauseWire>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    task_id: Option<TaskId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    child_workflow_run_id: Option<RunId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    child_workflow_run_status: Option<RunStatus>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<ErrorObject>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    explanation: Option<String>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    output: Option<Payload>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum CauseWire {
    Task,
    ChildWorkflow,
    #[serde(rename = "self")]
    Own,
}

impl StateWire {
    fn of(status: RunStatus) -> Self {
        Self {
            status,
            reason: None,
            scheduled_at: None,
            sleep_name: None,
            wakeup_at: None,
            event_name: None,
            timeout_at: None,
            next_attempt_at: None,
            cause: None,
            task_id: None,
            child_workflow_run_id: None,
            child_workflow_run_status: None,
            error: None,
            explanation: None,
            output: None,
        }
    }

    fn with_cause(mut self, cause: FailureCause) -> Self {
        (self.cause, self.task_id, self.child_workflow_run_id, self.error) = match cause {
            FailureCause::Task(task, error) => (Some(CauseWire::Task), Some(task), None, error),
            FailureCause::ChildWorkflow(run, error) => (Some(CauseWire::ChildWorkflow), None, Some(run), error),
            FailureCause::Own(error) => (Some(CauseWire::Own), None, None, Some(error)),
        };
        self
    }

    fn take_cause(&mut self) -> Result<FailureCause, String> {
        match need(self.cause, "cause")? {
            CauseWire::Task => Ok(FailureCause::Task(need(self.task_id, "taskId")?, self.error.take())),
            CauseWire::ChildWorkflow => Ok(FailureCause::ChildWorkflow(
                need(self.child_workflow_run_id, "childWorkflowRunId")?,
                self.error.take(),
            )),
            CauseWire::Own => Ok(FailureCause::Own(need(self.error.take(), "error")?)),
        }
    }
}

fn need<T>(value: Option<T>, field: &str) -> Result<T, String> {
    value.ok_or_else(|| format!("the state lacks `{field}`"))
}

impl From<RunState> for StateWire {
    fn from(state: RunState) -> Self {
        let mut wire = StateWire::of(state.status());
        match state {
            RunState::Running | RunState::Paused | RunState::Stalled => {}
            RunState::Scheduled { scheduled_at, reason } => {
                wire.scheduled_at = Some(scheduled_at);
                wire.reason = Some(reason.into());
            }
            RunState::Queued { reason } => wire.reason = Some(reason),
            RunState::Sleeping { name, wakeup_at } => {
                wire.sleep_name = Some(name);
                wire.wakeup_at = Some(wakeup_at);
            }
            RunState::AwaitingEvent { event, timeout_at } => {
                wire.event_name = Some(event);
                wire.timeout_at = timeout_at;
            }
            RunState::AwaitingRetry { next_attempt_at, cause } => {
                wire.next_attempt_at = Some(next_attempt_at);
                wire = wire.with_cause(cause);
            }
            RunState::AwaitingChild { child, awaited, timeout_at } => {
                wire.child_workflow_run_id = Some(child);
                wire.child_workflow_run_status = Some(awaited);
                wire.timeout_at = timeout_at;
            }
            RunState::Cancelled { explanation } => wire.explanation = explanation,
            RunState::Completed { output } => wire.output = output,
            RunState::Failed { cause } => wire = wire.with_cause(cause),
        }
        wire
    }
}

impl TryFrom<StateWire> for RunState {
    type Error = String;

    fn try_from(mut wire: StateWire) -> Result<Self, String> {
        Ok(match wire.status {
            RunStatus::Running => RunState::Running,
            RunStatus::Paused => RunState::Paused,
            RunStatus::Stalled => RunState::Stalled,
            RunStatus::Scheduled => RunState::Scheduled {
                scheduled_at: need(wire.scheduled_at, "scheduledAt")?,
                reason: scheduled_reason(need(wire.reason, "reason")?)?,
            },
            RunStatus::Queued => RunState::Queued { reason: need(wire.reason, "reason")? },
            RunStatus::Sleeping => RunState::Sleeping {
                name: need(wire.sleep_name, "sleepName")?,
                wakeup_at: need(wire.wakeup_at, "wakeupAt")?,
            },
            RunStatus::AwaitingEvent => {
                RunState::AwaitingEvent { event: need(wire.event_name, "eventName")?, timeout_at: wire.timeout_at }
            }
            RunStatus::AwaitingRetry => RunState::AwaitingRetry {
                next_attempt_at: need(wire.next_attempt_at, "nextAttemptAt")?,
                cause: wire.take_cause()?,
            },
            RunStatus::AwaitingChildWorkflow => RunState::AwaitingChild {
                child: need(wire.child_workflow_run_id, "childWorkflowRunId")?,
                awaited: need(wire.child_workflow_run_status, "childWorkflowRunStatus")?,
                timeout_at: wire.timeout_at,
            },
            RunStatus::Cancelled => RunState::Cancelled { explanation: wire.explanation },
            RunStatus::Completed => RunState::Completed { output: wire.output },
            RunStatus::Failed => RunState::Failed { cause: wire.take_cause()? },
        })
    }
}

fn scheduled_reason(reason: QueuedReason) -> Result<ScheduledReason, String> {
    let found = ScheduledReason::ALL.iter().copied().find(|scheduled| QueuedReason::from(*scheduled) == reason);
    found.ok_or_else(|| format!("a run cannot be scheduled for the reason `{reason}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_round_trip_through_their_wire_form() {
        let error = ErrorObject::new("E", "broken");
        let states = [
            RunState::Scheduled { scheduled_at: Timestamp::from_millis(5), reason: ScheduledReason::New },
            RunState::Sleeping { name: "nap".into(), wakeup_at: Timestamp::from_millis(9) },
            RunState::AwaitingRetry {
                next_attempt_at: Timestamp::from_millis(7),
                cause: FailureCause::Task(TaskId::from_bits(1), Some(error.clone())),
            },
            RunState::Failed { cause: FailureCause::Own(error) },
            RunState::Completed { output: Some(Payload::from_json("null").unwrap()) },
            RunState::Completed { output: None },
        ];
        for state in states {
            let text = serde_json::to_string(&state).unwrap();
            assert_eq!(serde_json::from_str::<RunState>(&text).unwrap(), state, "{text}");
        }
    }

    #[test]
    fn a_state_that_lacks_a_field_is_refused_by_name() {
        let error = serde_json::from_str::<RunState>(r#"{"status":"sleeping","sleepName":"n"}"#).unwrap_err();
        assert!(error.to_string().contains("wakeupAt"), "{error}");
    }
}
