//! What most programs need.

pub use crate::{
    ChildError, Client, ConflictPolicy, Event, Failure, HandlerError, Name, OverlapPolicy, Payload, Priority,
    RetryStrategy, Run, RunError, RunHandle, RunId, Schedule, ServerError, StartError, StartRun, Task, TaskContext,
    TaskError, Worker, WorkerConfig, Workflow, WorkflowKey, WorkflowVersion,
};

#[cfg(feature = "embedded")]
pub use crate::Server;

#[cfg(feature = "macros")]
pub use crate::{task, workflow};
