//! Errors of handlers: how they are written down and how they come back.
//!
//! A handler may return any error of its own. What can be written by serde travels unchanged from
//! task to workflow to client; what is only a `std::error::Error` becomes a [`Failure`].

mod child_error;
mod handler_error;
mod object;
mod task_error;

pub use child_error::{ChildError, FailedChild};
pub use handler_error::{Failure, HandlerError, RetryHint};
pub use object::ErrorObject;
pub use task_error::{FailedTask, TaskError};
