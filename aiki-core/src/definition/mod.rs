//! What users define: tasks, workflows and the registry that a worker serves.

mod durable;
mod event;
mod registry;
mod task;
mod workflow;

pub use durable::{Durable, HandlerResult};
pub use event::Event;
pub use registry::{RegistryError, WorkflowRegistry};
pub use task::Task;
pub use workflow::{HandlerFuture, RegisteredWorkflow, Workflow, WorkflowVersion};
