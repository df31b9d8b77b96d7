//! What handlers get: [`Run`] in a workflow, [`TaskContext`] in a task.

mod run;
mod shared;
mod sleep;
mod task;

pub use run::Run;
pub(crate) use shared::Shared;
pub use sleep::{Sleep, Slept};
pub(crate) use task::{TaskBody, panicked};
pub use task::{TaskContext, TaskFuture};
