//! What a workflow sees of a child run that did not complete.

use std::error::Error;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{ErrorObject, Failure, HandlerError};
use crate::id::RunId;
use crate::name::WorkflowKey;
use crate::payload::Payload;
use crate::run::RunState;
use crate::run::plan::DEADLINE_EXCEEDED;

/// Which child did not complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedChild {
    /// The child run; absent when the server refused to start it.
    pub run: Option<RunId>,
    /// The code that it executed.
    pub workflow: WorkflowKey,
}

impl fmt::Display for FailedChild {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.run {
            Some(run) => write!(f, "child {} ({run}) did not complete", self.workflow),
            None => write!(f, "child {} was not started", self.workflow),
        }
    }
}

impl Error for FailedChild {}

/// A child run did not complete, or not in time. It is recorded: replay returns the same error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChildError<E> {
    /// Its handler returned this error.
    Failed {
        /// The child's own error, unchanged.
        error: E,
        /// The child.
        child: FailedChild,
    },
    /// It was cancelled.
    Cancelled {
        /// What was said about it.
        explanation: Option<String>,
        /// The child.
        child: FailedChild,
    },
    /// It did not end before its deadline.
    TimedOut {
        /// The child.
        child: FailedChild,
    },
    /// The wait for it took longer than was asked for. The child itself goes on.
    WaitTimedOut {
        /// The child.
        child: FailedChild,
    },
    /// It failed in a way that its own error type cannot express: it panicked, its output could not be
    /// read, it was nested too deep, or its reference id belongs to a run with another input.
    Engine {
        /// What happened.
        error: Box<ErrorObject>,
        /// The child.
        child: FailedChild,
    },
}

impl<E> ChildError<E> {
    /// The child that did not complete.
    pub fn child(&self) -> &FailedChild {
        match self {
            ChildError::Failed { child, .. }
            | ChildError::Cancelled { child, .. }
            | ChildError::TimedOut { child }
            | ChildError::WaitTimedOut { child }
            | ChildError::Engine { child, .. } => child,
        }
    }
}

impl<E: HandlerError> ChildError<E> {
    /// What a child's end amounts to.
    pub(crate) fn read<O: serde::de::DeserializeOwned>(state: RunState, child: FailedChild) -> Result<O, Self> {
        match state {
            RunState::Completed { output } => Payload::decode(output.as_ref()).map_err(|error| {
                let error = Box::new(ErrorObject::from_error("WorkflowOutputError", &error));
                ChildError::Engine { error, child }
            }),
            RunState::Cancelled { explanation } => Err(ChildError::Cancelled { explanation, child }),
            RunState::Failed { cause } => {
                let untold = || ErrorObject::new("RunFailed", "the child failed and its worker did not tell the error");
                let error = cause.error().cloned().unwrap_or_else(untold);
                if error.name == DEADLINE_EXCEEDED && error.data.is_none() {
                    return Err(ChildError::TimedOut { child });
                }
                // What was refused has no error of its own type, whatever the type accepts.
                if child.run.is_none() {
                    return Err(ChildError::Engine { error: Box::new(error), child });
                }
                Err(match E::from_object(error) {
                    Ok(error) => ChildError::Failed { error, child },
                    Err(error) => ChildError::Engine { error: Box::new(error), child },
                })
            }
            other => {
                let text = format!("the child was recorded as ended while it was {}", other.status());
                Err(ChildError::Engine { error: Box::new(ErrorObject::new("EngineError", text)), child })
            }
        }
    }
}

impl<E: fmt::Display> fmt::Display for ChildError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChildError::Failed { error, child } => write!(f, "{child}: {error}"),
            ChildError::Cancelled { explanation: Some(text), child } => write!(f, "{child}: it was cancelled: {text}"),
            ChildError::Cancelled { explanation: None, child } => write!(f, "{child}: it was cancelled"),
            ChildError::TimedOut { child } => write!(f, "{child}: its deadline is over"),
            ChildError::WaitTimedOut { child } => write!(f, "{child} within the time that was given"),
            ChildError::Engine { error, child } => write!(f, "{child}: {error}"),
        }
    }
}

/// Also where the child's error is a [`Failure`], which is no `Error` itself.
impl<E: fmt::Debug + fmt::Display> Error for ChildError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.child())
    }
}

impl ChildError<Failure> {
    /// What is written down when this is passed on: the child's own error is the cause.
    pub(super) fn passed_on(&self) -> ErrorObject {
        let mut object = ErrorObject::new("ChildError", self.to_string());
        object.cause = match self {
            ChildError::Failed { error, .. } => Some(Box::new(error.object().clone())),
            ChildError::Engine { error, .. } => Some(error.clone()),
            _ => None,
        };
        object
    }
}
