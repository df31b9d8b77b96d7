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

impl<E: Error> Error for TaskError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.task())
    }
}

impl From<TaskError<Failure>> for Failure {
    fn from(error: TaskError<Failure>) -> Self {
        let text = error.to_string();
        let (cause, task) = match error {
            TaskError::Failed { error, task } => (error.into_object(), task),
            TaskError::TimedOut { task } => (ErrorObject::new(TASK_TIMED_OUT, "the last attempt took too long"), task),
            TaskError::Engine { error, task } => (*error, task),
        };
        let mut object = ErrorObject::new("TaskError", text);
        object.cause = Some(Box::new(cause));
        Failure::from_object(object).caused_by(Some(task))
    }
}
