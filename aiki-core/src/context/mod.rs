//! What handlers get: [`Run`] in a workflow, [`TaskContext`] in a task.

mod child;
mod progress;
mod race;
mod run;
mod shared;
mod sleep;
mod task;
mod wait;

pub use child::{Child, ChildOptions, ChildWait};
pub use race::{Either, race};
pub use run::Run;
pub use shared::HistorySize;
pub(crate) use shared::{About, Shared};
pub use sleep::{Sleep, Slept};
pub(crate) use task::{BoxFuture, TaskBody, panicked};
pub use task::{TaskContext, TaskFuture};
pub use wait::{Elapsed, EventWait, EventWithin};
