//! Why a worker could not run.

use aiki_core::WorkflowKey;

/// A worker did not start, or ended by itself. Whatever trying again can mend is tried again and
/// never ends up here.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorkerError {
    /// There is nothing to serve.
    #[error("the worker serves no workflow: add one with `worker.workflow_registry().add(..)` before `start()`")]
    NothingRegistered,
    /// A name and version was registered twice.
    #[error("{0} is registered twice: give one of them another name or version")]
    DuplicateWorkflow(WorkflowKey),
    /// The subscriber cannot be used as it is configured.
    #[error("the worker's subscriber is misconfigured: {0}")]
    Misconfigured(String),
    /// The server does not accept this worker.
    #[error("the server refuses the worker: {0}")]
    Unauthorized(String),
    /// The worker's own fault: it ended without a report.
    #[error("the worker ended unexpectedly; what it held goes to other workers when its leases lapse")]
    Crashed,
}

aiki_core::debug_as_display!(WorkerError);
