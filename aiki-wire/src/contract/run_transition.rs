//! Moving a run.

use std::num::NonZeroU64;
use std::time::Duration;

use aiki_core::Payload;
use aiki_core::failure::ErrorObject;
use aiki_core::run::plan::plain::PlainState;
use aiki_core::run::state::FailureCause;
use aiki_core::run::status::{QueuedReason, RunStatus, ScheduledReason};
use aiki_core::time::ceil_millis;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::unknown::UnknownId;
use crate::read::{At, Fields, Invalid, Read, Str1, WholeAbove};

/// `workflowRun.transitionStateV1`.
#[derive(Clone, Debug, PartialEq)]
pub struct RunTransition {
    /// The run.
    pub id: Str1,
    /// The revision at which the caller saw it (`optimistic`); `None` is whichever (`pessimistic`).
    pub expected_revision: Option<u64>,
    /// Where it is to go.
    pub state: RunTarget,
}

/// Where a run is to go. Times are milliseconds from now.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the fields are named as in the contract; RunStatus documents the states")]
pub enum RunTarget {
    Scheduled { reason: ScheduledReason, in_ms: u64 },
    Queued { reason: QueuedReason },
    Running,
    Paused,
    Stalled,
    Sleeping { name: Str1, duration_ms: u64 },
    AwaitingEvent { event: Str1, timeout_ms: Option<NonZeroU64> },
    AwaitingRetry { cause: Cause, in_ms: u64 },
    AwaitingChild { child: Str1, awaited: RunStatus, timeout_ms: Option<NonZeroU64> },
    Cancelled { explanation: Option<Str1> },
    Completed { output: Option<Payload> },
    Failed { cause: Cause },
}

/// Why a run failed.
#[derive(Clone, Debug, PartialEq)]
pub enum Cause {
    /// This task did.
    Task(Str1, Option<ErrorObject>),
    /// This child did.
    Child(Str1, Option<ErrorObject>),
    /// Its handler did.
    Own(ErrorObject),
}

impl Read for RunTransition {
    fn read(raw: &RawValue, at: &At<'_>) -> Result<Self, Invalid> {
        let fields = Fields::open(raw, at)?;
        let kind: String = fields.need("type")?;
        let id = fields.need("id")?;
        let state: RunTarget = fields.need("state")?;
        match kind.as_str() {
            "optimistic" if state.is_pessimistic() => {
                Err(fields.wrong("state", "one that type optimistic carries: send this one as pessimistic"))
            }
            "optimistic" => Ok(Self { id, expected_revision: Some(fields.need("expectedRevision")?), state }),
            "pessimistic" if state.is_pessimistic() => Ok(Self { id, expected_revision: None, state }),
            "pessimistic" => Err(fields.wrong("state", "one that type pessimistic carries: send this as optimistic")),
            _ => Err(fields.wrong("type", "one of optimistic, pessimistic")),
        }
    }
}

impl Read for RunTarget {
    fn read(raw: &RawValue, at: &At<'_>) -> Result<Self, Invalid> {
        let fields = Fields::open(raw, at)?;
        Ok(match fields.need::<RunStatus>("status")? {
            RunStatus::Scheduled => {
                Self::Scheduled { reason: fields.need("reason")?, in_ms: fields.need("scheduledInMs")? }
            }
            RunStatus::Queued => Self::Queued { reason: fields.need("reason")? },
            RunStatus::Running => Self::Running,
            RunStatus::Paused => Self::Paused,
            RunStatus::Stalled => Self::Stalled,
            RunStatus::Sleeping => Self::Sleeping {
                name: fields.need("sleepName")?,
                duration_ms: fields.need::<WholeAbove<0>>("durationMs")?.0,
            },
            RunStatus::AwaitingEvent => {
                Self::AwaitingEvent { event: fields.need("eventName")?, timeout_ms: fields.may("timeoutInMs")? }
            }
            RunStatus::AwaitingRetry => Self::AwaitingRetry {
                cause: Cause::read(&fields)?,
                in_ms: fields.need::<WholeAbove<1>>("nextAttemptInMs")?.0,
            },
            RunStatus::AwaitingChildWorkflow => {
                let awaited: RunStatus = fields.need("childWorkflowRunStatus")?;
                if !awaited.is_terminal() {
                    return Err(fields.wrong("childWorkflowRunStatus", "one of cancelled, completed, failed"));
                }
                let child = fields.need("childWorkflowRunId")?;
                Self::AwaitingChild { child, awaited, timeout_ms: fields.may("timeoutInMs")? }
            }
            RunStatus::Cancelled => Self::Cancelled { explanation: fields.may("explanation")? },
            RunStatus::Completed => Self::Completed { output: fields.may("output")? },
            RunStatus::Failed => Self::Failed { cause: Cause::read(&fields)? },
        })
    }
}

impl Cause {
    fn read(fields: &Fields<'_>) -> Result<Self, Invalid> {
        match fields.need::<String>("cause")?.as_str() {
            // The error beside the id is an extension: what else stands there is ignored.
            "task" => Ok(Self::Task(fields.need("taskId")?, fields.may("error").unwrap_or_default())),
            "child_workflow" => {
                Ok(Self::Child(fields.need("childWorkflowRunId")?, fields.may("error").unwrap_or_default()))
            }
            "self" => fields.need("error").map(Self::Own),
            _ => Err(fields.wrong("cause", "one of task, child_workflow, self")),
        }
    }

    fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let error = match self {
            Cause::Task(id, error) => {
                map.serialize_entry("cause", "task")?;
                map.serialize_entry("taskId", id)?;
                error.as_ref()
            }
            Cause::Child(id, error) => {
                map.serialize_entry("cause", "child_workflow")?;
                map.serialize_entry("childWorkflowRunId", id)?;
                error.as_ref()
            }
            Cause::Own(error) => {
                map.serialize_entry("cause", "self")?;
                Some(error)
            }
        };
        error.map_or(Ok(()), |error| map.serialize_entry("error", error))
    }

    fn into_core(self) -> Result<FailureCause, UnknownId> {
        Ok(match self {
            Cause::Task(id, error) => FailureCause::Task(UnknownId::task(&id)?, error),
            Cause::Child(id, error) => FailureCause::ChildWorkflow(UnknownId::run(&id)?, error),
            Cause::Own(error) => FailureCause::Own(error),
        })
    }
}

impl RunTarget {
    /// Whether the contract carries it without a revision.
    pub fn is_pessimistic(&self) -> bool {
        match self {
            RunTarget::Scheduled { reason, .. } => {
                !matches!(reason, ScheduledReason::Event | ScheduledReason::ChildWorkflow)
            }
            RunTarget::Paused | RunTarget::Stalled | RunTarget::Cancelled { .. } => true,
            _ => false,
        }
    }

    /// The status alone.
    pub fn status(&self) -> RunStatus {
        match self {
            RunTarget::Scheduled { .. } => RunStatus::Scheduled,
            RunTarget::Queued { .. } => RunStatus::Queued,
            RunTarget::Running => RunStatus::Running,
            RunTarget::Paused => RunStatus::Paused,
            RunTarget::Stalled => RunStatus::Stalled,
            RunTarget::Sleeping { .. } => RunStatus::Sleeping,
            RunTarget::AwaitingEvent { .. } => RunStatus::AwaitingEvent,
            RunTarget::AwaitingRetry { .. } => RunStatus::AwaitingRetry,
            RunTarget::AwaitingChild { .. } => RunStatus::AwaitingChildWorkflow,
            RunTarget::Cancelled { .. } => RunStatus::Cancelled,
            RunTarget::Completed { .. } => RunStatus::Completed,
            RunTarget::Failed { .. } => RunStatus::Failed,
        }
    }

    /// The target as core knows it.
    ///
    /// # Errors
    /// [`UnknownId`] when it names a task or child by an id that is no ULID.
    pub fn into_core(self) -> Result<PlainState, UnknownId> {
        let ms = Duration::from_millis;
        let timeout = |timeout: Option<NonZeroU64>| timeout.map(|timeout| ms(timeout.get()));
        Ok(match self {
            RunTarget::Scheduled { reason, in_ms } => PlainState::Scheduled { reason, delay: ms(in_ms) },
            RunTarget::Queued { reason } => PlainState::Queued { reason },
            RunTarget::Running => PlainState::Running,
            RunTarget::Paused => PlainState::Paused,
            RunTarget::Stalled => PlainState::Stalled,
            RunTarget::Sleeping { name, duration_ms } => {
                PlainState::Sleeping { name: name.into(), duration: ms(duration_ms) }
            }
            RunTarget::AwaitingEvent { event, timeout_ms } => {
                PlainState::AwaitingEvent { event: event.into(), timeout: timeout(timeout_ms) }
            }
            RunTarget::AwaitingRetry { cause, in_ms } => {
                PlainState::AwaitingRetry { cause: cause.into_core()?, retry_in: ms(in_ms) }
            }
            RunTarget::AwaitingChild { child, awaited, timeout_ms } => {
                PlainState::AwaitingChild { child: UnknownId::run(&child)?, awaited, timeout: timeout(timeout_ms) }
            }
            RunTarget::Cancelled { explanation } => {
                PlainState::Cancelled { explanation: explanation.map(Str1::into_string) }
            }
            RunTarget::Completed { output } => PlainState::Completed { output },
            RunTarget::Failed { cause } => PlainState::Failed { cause: cause.into_core()? },
        })
    }

    /// The target that asks for this; `None` when a name in it is empty.
    pub fn of(state: PlainState) -> Option<Self> {
        let timeout = |timeout: Option<Duration>| timeout.and_then(|limit| NonZeroU64::new(ceil_millis(limit).max(1)));
        let cause = |cause: FailureCause| match cause {
            FailureCause::Task(id, error) => Str1::new(id.to_string()).map(|id| Cause::Task(id, error)),
            FailureCause::ChildWorkflow(id, error) => Str1::new(id.to_string()).map(|id| Cause::Child(id, error)),
            FailureCause::Own(error) => Some(Cause::Own(error)),
        };
        Some(match state {
            PlainState::Scheduled { reason, delay } => Self::Scheduled { reason, in_ms: ceil_millis(delay) },
            PlainState::Queued { reason } => Self::Queued { reason },
            PlainState::Running => Self::Running,
            PlainState::Paused => Self::Paused,
            PlainState::Stalled => Self::Stalled,
            PlainState::Sleeping { name, duration } => {
                Self::Sleeping { name: Str1::new(name)?, duration_ms: ceil_millis(duration).max(1) }
            }
            PlainState::AwaitingEvent { event, timeout: limit } => {
                Self::AwaitingEvent { event: Str1::new(event)?, timeout_ms: timeout(limit) }
            }
            PlainState::AwaitingRetry { cause: why, retry_in } => {
                Self::AwaitingRetry { cause: cause(why)?, in_ms: ceil_millis(retry_in).max(1) }
            }
            PlainState::AwaitingChild { child, awaited, timeout: limit } => {
                Self::AwaitingChild { child: Str1::new(child.to_string())?, awaited, timeout_ms: timeout(limit) }
            }
            PlainState::Cancelled { explanation } => Self::Cancelled { explanation: explanation.and_then(Str1::new) },
            PlainState::Completed { output } => Self::Completed { output },
            PlainState::Failed { cause: why } => Self::Failed { cause: cause(why)? },
        })
    }
}

impl Serialize for RunTransition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", if self.expected_revision.is_some() { "optimistic" } else { "pessimistic" })?;
        map.serialize_entry("id", &self.id)?;
        if let Some(revision) = self.expected_revision {
            map.serialize_entry("expectedRevision", &revision)?;
        }
        map.serialize_entry("state", &self.state)?;
        map.end()
    }
}

impl Serialize for RunTarget {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("status", &self.status())?;
        match self {
            RunTarget::Running | RunTarget::Paused | RunTarget::Stalled => {}
            RunTarget::Scheduled { reason, in_ms } => {
                map.serialize_entry("reason", reason)?;
                map.serialize_entry("scheduledInMs", in_ms)?;
            }
            RunTarget::Queued { reason } => map.serialize_entry("reason", reason)?,
            RunTarget::Sleeping { name, duration_ms } => {
                map.serialize_entry("sleepName", name)?;
                map.serialize_entry("durationMs", duration_ms)?;
            }
            RunTarget::AwaitingEvent { event, timeout_ms } => {
                map.serialize_entry("eventName", event)?;
                timeout_ms.map_or(Ok(()), |ms| map.serialize_entry("timeoutInMs", &ms))?;
            }
            RunTarget::AwaitingRetry { cause, in_ms } => {
                map.serialize_entry("nextAttemptInMs", in_ms)?;
                cause.write(&mut map)?;
            }
            RunTarget::AwaitingChild { child, awaited, timeout_ms } => {
                map.serialize_entry("childWorkflowRunId", child)?;
                map.serialize_entry("childWorkflowRunStatus", awaited)?;
                timeout_ms.map_or(Ok(()), |ms| map.serialize_entry("timeoutInMs", &ms))?;
            }
            RunTarget::Cancelled { explanation } => {
                explanation.as_ref().map_or(Ok(()), |text| map.serialize_entry("explanation", text))?;
            }
            RunTarget::Completed { output } => {
                output.as_ref().map_or(Ok(()), |output| map.serialize_entry("output", output))?;
            }
            RunTarget::Failed { cause } => cause.write(&mut map)?,
        }
        map.end()
    }
}
