//! Moving tasks.

use std::num::NonZeroU64;
use std::time::Duration;

use aiki_core::Payload;
use aiki_core::failure::ErrorObject;
use aiki_core::hash::InputHash;
use aiki_core::retry::RetryStrategy;
use aiki_core::run::plan::TaskTarget;
use aiki_core::run::plan::plain::{TaskChange, TransitionTask};
use aiki_core::run::status::TaskStatus;
use aiki_core::server_client::SetTaskResult;
use aiki_core::time::ceil_millis;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::request::request;
use super::unknown::UnknownId;
use crate::read::{At, Fields, Invalid, Read, Str1, WholeAbove};

request! {
    /// Options of a task.
    TaskOptions {
        /// How it is retried.
        may retry: RetryStrategy = "retry",
    }
}

/// `task.transitionStateV1`.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskTransition {
    /// The task's run.
    pub run: Str1,
    /// The revision at which the caller saw the run.
    pub expected_revision: u64,
    /// What becomes of the task.
    pub change: TaskMove,
}

/// What becomes of a task.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the fields are named as in the contract")]
pub enum TaskMove {
    Create { name: Str1, options: Option<TaskOptions>, input: Option<Payload>, input_hash: Str1 },
    Retry { id: Str1, options: Option<TaskOptions>, attempts: NonZeroU64 },
    Complete { id: Str1, attempts: NonZeroU64, output: Option<Payload> },
    Fail { id: Str1, attempts: NonZeroU64, error: ErrorObject },
    Park { id: Str1, attempts: NonZeroU64, error: ErrorObject, in_ms: u64 },
}

impl Read for TaskTransition {
    fn read(raw: &RawValue, at: &At<'_>) -> Result<Self, Invalid> {
        let fields = Fields::open(raw, at)?;
        let run = fields.need("workflowRunId")?;
        let expected_revision = fields.need("expectedWorkflowRunRevision")?;
        let kind: Option<String> = fields.may("type")?;
        let change = match kind.as_deref() {
            Some("create") => TaskMove::Create {
                name: fields.need("taskName")?,
                options: fields.may("options")?,
                input: fields.may("input")?,
                input_hash: fields.need("inputHash")?,
            },
            Some("retry") => {
                let Restart { attempts } = fields.need("taskState")?;
                TaskMove::Retry { id: fields.need("id")?, options: fields.may("options")?, attempts }
            }
            // Any other type is a key that a report does not have.
            _ => {
                let id: Str1 = fields.need("id")?;
                match fields.need("taskState")? {
                    Reported::Complete { attempts, output } => TaskMove::Complete { id, attempts, output },
                    Reported::Fail { attempts, error } => TaskMove::Fail { id, attempts, error },
                    Reported::Park { attempts, error, in_ms } => TaskMove::Park { id, attempts, error, in_ms },
                }
            }
        };
        Ok(Self { run, expected_revision, change })
    }
}

struct Restart {
    attempts: NonZeroU64,
}

impl Read for Restart {
    fn read(raw: &RawValue, at: &At<'_>) -> Result<Self, Invalid> {
        let fields = Fields::open(raw, at)?;
        match fields.need::<TaskStatus>("status")? {
            TaskStatus::Running => Ok(Self { attempts: fields.need("attempts")? }),
            _ => Err(fields.wrong("status", "running")),
        }
    }
}

enum Reported {
    Complete { attempts: NonZeroU64, output: Option<Payload> },
    Fail { attempts: NonZeroU64, error: ErrorObject },
    Park { attempts: NonZeroU64, error: ErrorObject, in_ms: u64 },
}

impl Read for Reported {
    fn read(raw: &RawValue, at: &At<'_>) -> Result<Self, Invalid> {
        let fields = Fields::open(raw, at)?;
        let attempts = || fields.need::<NonZeroU64>("attempts");
        match fields.need::<TaskStatus>("status")? {
            TaskStatus::Completed => Ok(Self::Complete { attempts: attempts()?, output: fields.may("output")? }),
            TaskStatus::Failed => Ok(Self::Fail { attempts: attempts()?, error: fields.need("error")? }),
            TaskStatus::AwaitingRetry => Ok(Self::Park {
                attempts: attempts()?,
                error: fields.need("error")?,
                in_ms: fields.need::<WholeAbove<1>>("nextAttemptInMs")?.0,
            }),
            TaskStatus::Running | TaskStatus::Discarded => {
                Err(fields.wrong("status", "one of completed, failed, awaiting_retry"))
            }
        }
    }
}

impl TaskTransition {
    /// The request as core knows it.
    ///
    /// # Errors
    /// [`UnknownId`] when an id is no ULID.
    pub fn into_core(self) -> Result<TransitionTask, UnknownId> {
        let run = UnknownId::run(&self.run)?;
        let change = match self.change {
            TaskMove::Create { name, options, input, input_hash } => TaskChange::Create {
                name: name.into(),
                input,
                input_hash: InputHash::from(String::from(input_hash)),
                retry: options.and_then(|options| options.retry),
            },
            TaskMove::Retry { id, attempts, .. } => {
                TaskChange::Retry { id: UnknownId::task(&id)?, attempts: attempts.get() }
            }
            TaskMove::Complete { id, attempts, output } => {
                TaskChange::Complete { id: UnknownId::task(&id)?, attempts: attempts.get(), output }
            }
            TaskMove::Fail { id, attempts, error } => {
                TaskChange::Fail { id: UnknownId::task(&id)?, attempts: attempts.get(), error }
            }
            TaskMove::Park { id, attempts, error, in_ms } => TaskChange::Park {
                id: UnknownId::task(&id)?,
                attempts: attempts.get(),
                error,
                retry_in: Duration::from_millis(in_ms),
            },
        };
        Ok(TransitionTask { run, expected_revision: self.expected_revision, change })
    }

    /// The call that asks for this; `None` when a name or hash in it is empty.
    pub fn of(request: TransitionTask) -> Option<Self> {
        let text = |id: aiki_core::TaskId| Str1::new(id.to_string());
        let least = |attempts: u64| NonZeroU64::new(attempts.max(1));
        let change = match request.change {
            TaskChange::Create { name, input, input_hash, retry } => TaskMove::Create {
                name: Str1::new(name)?,
                options: Some(TaskOptions { retry }),
                input,
                input_hash: Str1::new(input_hash.as_str())?,
            },
            TaskChange::Retry { id, attempts } => {
                TaskMove::Retry { id: text(id)?, options: None, attempts: least(attempts)? }
            }
            TaskChange::Complete { id, attempts, output } => {
                TaskMove::Complete { id: text(id)?, attempts: least(attempts)?, output }
            }
            TaskChange::Fail { id, attempts, error } => {
                TaskMove::Fail { id: text(id)?, attempts: least(attempts)?, error }
            }
            TaskChange::Park { id, attempts, error, retry_in } => {
                TaskMove::Park { id: text(id)?, attempts: least(attempts)?, error, in_ms: ceil_millis(retry_in).max(1) }
            }
        };
        let run = Str1::new(request.run.to_string())?;
        Some(Self { run, expected_revision: request.expected_revision, change })
    }
}

impl Serialize for TaskTransition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match &self.change {
            TaskMove::Create { name, options, input, input_hash } => {
                map.serialize_entry("type", "create")?;
                map.serialize_entry("taskName", name)?;
                options.as_ref().map_or(Ok(()), |options| map.serialize_entry("options", options))?;
                input.as_ref().map_or(Ok(()), |input| map.serialize_entry("input", input))?;
                map.serialize_entry("inputHash", input_hash)?;
            }
            TaskMove::Retry { id, options, .. } => {
                map.serialize_entry("type", "retry")?;
                map.serialize_entry("id", id)?;
                options.as_ref().map_or(Ok(()), |options| map.serialize_entry("options", options))?;
                map.serialize_entry("taskState", &Stood(&self.change))?;
            }
            TaskMove::Complete { id, .. } | TaskMove::Fail { id, .. } | TaskMove::Park { id, .. } => {
                map.serialize_entry("id", id)?;
                map.serialize_entry("taskState", &Stood(&self.change))?;
            }
        }
        map.serialize_entry("workflowRunId", &self.run)?;
        map.serialize_entry("expectedWorkflowRunRevision", &self.expected_revision)?;
        map.end()
    }
}

/// The `taskState` of a request.
struct Stood<'a>(&'a TaskMove);

impl Serialize for Stood<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let (status, attempts, error) = match self.0 {
            TaskMove::Create { .. } => (TaskStatus::Running, NonZeroU64::MIN, None),
            TaskMove::Retry { attempts, .. } => (TaskStatus::Running, *attempts, None),
            TaskMove::Complete { attempts, .. } => (TaskStatus::Completed, *attempts, None),
            TaskMove::Fail { attempts, error, .. } => (TaskStatus::Failed, *attempts, Some(error)),
            TaskMove::Park { attempts, error, .. } => (TaskStatus::AwaitingRetry, *attempts, Some(error)),
        };
        map.serialize_entry("status", &status)?;
        map.serialize_entry("attempts", &attempts)?;
        error.map_or(Ok(()), |error| map.serialize_entry("error", error))?;
        match self.0 {
            TaskMove::Complete { output: Some(output), .. } => map.serialize_entry("output", output)?,
            TaskMove::Park { in_ms, .. } => map.serialize_entry("nextAttemptInMs", in_ms)?,
            _ => {}
        }
        map.end()
    }
}

/// `task.setStateV1`: an operator's result for a task.
#[derive(Clone, Debug, PartialEq)]
pub struct SetTaskState {
    /// The task's run.
    pub run: Str1,
    /// Which task.
    pub task: SetTask,
    /// The result.
    pub result: Result<Payload, ErrorObject>,
}

/// A task whose result is set.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the fields are named as in the contract")]
pub enum SetTask {
    New { name: Str1, input: Option<Payload>, input_hash: Str1 },
    Existing(Str1),
}

impl Read for SetTaskState {
    fn read(raw: &RawValue, at: &At<'_>) -> Result<Self, Invalid> {
        let fields = Fields::open(raw, at)?;
        let run = fields.need("workflowRunId")?;
        let task = match fields.need::<String>("type")?.as_str() {
            "new" => SetTask::New {
                name: fields.need("taskName")?,
                input: fields.may("input")?,
                input_hash: fields.need("inputHash")?,
            },
            "existing" => SetTask::Existing(fields.need("id")?),
            _ => return Err(fields.wrong("type", "one of new, existing")),
        };
        let SetResult(result) = fields.need("state")?;
        Ok(Self { run, task, result })
    }
}

struct SetResult(Result<Payload, ErrorObject>);

impl Read for SetResult {
    fn read(raw: &RawValue, at: &At<'_>) -> Result<Self, Invalid> {
        let fields = Fields::open(raw, at)?;
        match fields.need::<TaskStatus>("status")? {
            TaskStatus::Completed => fields.need("output").map(|output| Self(Ok(output))),
            TaskStatus::Failed => fields.need("error").map(|error| Self(Err(error))),
            _ => Err(fields.wrong("status", "one of completed, failed")),
        }
    }
}

impl SetTaskState {
    /// The request as core knows it.
    ///
    /// # Errors
    /// [`UnknownId`] when an id is no ULID.
    pub fn into_core(self) -> Result<SetTaskResult, UnknownId> {
        let run = UnknownId::run(&self.run)?;
        let target = match self.task {
            SetTask::New { name, input, input_hash } => {
                TaskTarget::New { name: name.into(), input, input_hash: InputHash::from(String::from(input_hash)) }
            }
            SetTask::Existing(id) => TaskTarget::Existing(UnknownId::task(&id)?),
        };
        Ok(SetTaskResult { run, target, result: self.result.map(Some) })
    }

    /// The call that asks for this; `None` when a name or hash in it is empty.
    pub fn of(request: SetTaskResult) -> Option<Self> {
        let task = match request.target {
            TaskTarget::New { name, input, input_hash } => {
                SetTask::New { name: Str1::new(name)?, input, input_hash: Str1::new(input_hash.as_str())? }
            }
            TaskTarget::Existing(id) => SetTask::Existing(Str1::new(id.to_string())?),
        };
        // The contract wants an output; no output is told as null.
        let null = || Payload::of(&()).ok();
        let result = match request.result {
            Ok(output) => Ok(output.or_else(null)?),
            Err(error) => Err(error),
        };
        Some(Self { run: Str1::new(request.run.to_string())?, task, result })
    }
}

impl Serialize for SetTaskState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match &self.task {
            SetTask::New { name, input, input_hash } => {
                map.serialize_entry("type", "new")?;
                map.serialize_entry("taskName", name)?;
                input.as_ref().map_or(Ok(()), |input| map.serialize_entry("input", input))?;
                map.serialize_entry("inputHash", input_hash)?;
            }
            SetTask::Existing(id) => {
                map.serialize_entry("type", "existing")?;
                map.serialize_entry("id", id)?;
            }
        }
        map.serialize_entry("workflowRunId", &self.run)?;
        map.serialize_entry("state", &ResultState(&self.result))?;
        map.end()
    }
}

struct ResultState<'a>(&'a Result<Payload, ErrorObject>);

impl Serialize for ResultState<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self.0 {
            Ok(output) => {
                map.serialize_entry("status", &TaskStatus::Completed)?;
                map.serialize_entry("output", output)?;
            }
            Err(error) => {
                map.serialize_entry("status", &TaskStatus::Failed)?;
                map.serialize_entry("error", error)?;
            }
        }
        map.end()
    }
}
