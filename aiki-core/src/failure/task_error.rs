//! What a workflow sees of a task that failed for good.

use std::error::Error;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{ErrorObject, Failure, HandlerError};
use crate::id::TaskId;
use crate::name::Name;
use crate::replay::TASK_TIMED_OUT;

/// Names the task that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedTask {
    /// The task's id.
    pub id: TaskId,
    /// The task's name.
    pub name: Name,
    /// Attempts made, the first included.
    pub attempts: u64,
}

impl fmt::Display for FailedTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let times = if self.attempts == 1 { "attempt" } else { "attempts" };
        write!(f, "task `{}` failed after {} {times}", self.name, self.attempts)
    }
}

impl Error for FailedTask {}

/// A task failed and no retry is left. The failure is recorded: replay returns the same error.
///
/// It is a `std::error::Error` whatever the task's own error is, so `?` takes it everywhere:
///
/// ```
/// use aiki_core::{Failure, TaskError};
///
/// #[derive(Debug, thiserror::Error)]
/// enum OrderError {
///     #[error("charging failed")]
///     Charge(#[from] TaskError<Failure>),
/// }
/// fn typed(charged: Result<u64, TaskError<Failure>>) -> Result<u64, OrderError> {
///     Ok(charged?)
/// }
/// fn untyped(charged: Result<u64, TaskError<Failure>>) -> anyhow::Result<u64> {
///     Ok(charged?)
/// }
/// fn passed_on(charged: Result<u64, TaskError<Failure>>) -> Result<u64, Failure> {
///     Ok(charged?)
/// }
/// # assert!(typed(Ok(1)).is_ok() && untyped(Ok(1)).is_ok() && passed_on(Ok(1)).is_ok());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskError<E> {
    /// The handler returned this error.
    Failed {
        /// The handler's own error, unchanged.
        error: E,
        /// The task that failed.
        task: FailedTask,
    },
    /// Its last attempt took longer than its [time limit](crate::Task::time_limit), or gave no
    /// [heartbeat](crate::TaskContext::heartbeat) in time.
    TimedOut {
        /// The task that failed.
        task: FailedTask,
    },
    /// The task failed in a way that its own error type cannot express: it panicked, its input or
    /// output could not be read or written, a payload was too large, or a peer recorded a foreign error.
    Engine {
        /// What happened.
        error: Box<ErrorObject>,
        /// The task that failed.
        task: FailedTask,
    },
}

impl<E> TaskError<E> {
    /// The task that failed.
    pub fn task(&self) -> &FailedTask {
        match self {
            TaskError::Failed { task, .. } | TaskError::TimedOut { task } | TaskError::Engine { task, .. } => task,
        }
    }

    /// The handler's own error, if it returned one.
    pub fn into_failed(self) -> Option<E> {
        match self {
            TaskError::Failed { error, .. } => Some(error),
            TaskError::TimedOut { .. } | TaskError::Engine { .. } => None,
        }
    }
}

impl<E: HandlerError> TaskError<E> {
    /// Reads a recorded failure.
    pub(crate) fn from_recorded(error: ErrorObject, task: FailedTask) -> Self {
        if error.name == TASK_TIMED_OUT && error.data.is_none() {
            return TaskError::TimedOut { task };
        }
        match E::from_object(error) {
            Ok(error) => TaskError::Failed { error, task },
            Err(error) => TaskError::Engine { error: Box::new(error), task },
        }
    }
}

impl<E: fmt::Display> fmt::Display for TaskError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TaskError::Failed { error, task } => write!(f, "{task}: {error}"),
            TaskError::TimedOut { task } => write!(f, "{task}: the last attempt took too long"),
            TaskError::Engine { error, task } => write!(f, "{task}: {error}"),
        }
    }
}

/// Also where the handler's error is a [`Failure`], which is no `Error` itself: so `?` takes it into `anyhow::Error` and
/// into the errors of `thiserror`.
impl<E: fmt::Debug + fmt::Display> Error for TaskError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.task())
    }
}

impl TaskError<Failure> {
    /// What is written down when this is passed on: the task's own error is the cause.
    pub(super) fn passed_on(&self) -> ErrorObject {
        let cause = match self {
            TaskError::Failed { error, .. } => error.object().clone(),
            TaskError::TimedOut { .. } => ErrorObject::new(TASK_TIMED_OUT, "the last attempt took too long"),
            TaskError::Engine { error, .. } => (**error).clone(),
        };
        let mut object = ErrorObject::new("TaskError", self.to_string());
        object.cause = Some(Box::new(cause));
        object
    }
}
