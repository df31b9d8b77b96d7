//! What callers hold: [`Client`], the builder of a start, and the handle of a run.

mod handle;
mod schedule;
mod start;

use std::fmt;
use std::sync::Arc;

pub use handle::{RunError, RunHandle};
pub use schedule::{Schedule, ScheduleError, ScheduleHandle};
pub use start::{StartError, StartRun};

use crate::definition::WorkflowVersion;
use crate::id::RunId;
use crate::server_client::{ServerClient, ServerError, WorkerInfo};

/// Speaks to one server for one namespace. Cloning is cheap.
#[derive(Clone)]
pub struct Client {
    server: Arc<dyn ServerClient>,
}

impl Client {
    /// A client over any implementation of [`ServerClient`].
    pub fn new(server: impl ServerClient) -> Self {
        Self { server: Arc::new(server) }
    }

    /// A client over a shared implementation.
    pub fn from_arc(server: Arc<dyn ServerClient>) -> Self {
        Self { server }
    }

    /// The server behind this client.
    pub fn server(&self) -> &Arc<dyn ServerClient> {
        &self.server
    }

    /// The workers that the server has heard of lately, and which runs each holds since when.
    ///
    /// # Errors
    /// [`ServerError`] when the server cannot be asked.
    pub async fn workers(&self) -> Result<Vec<WorkerInfo>, ServerError> {
        self.server.list_workers().await
    }

    /// A handle of a run that was started elsewhere, with the types of `workflow`.
    pub fn handle<I, O, E>(&self, _workflow: &WorkflowVersion<I, O, E>, run: RunId) -> RunHandle<O, E> {
        RunHandle::new(self.clone(), run)
    }

    /// A handle of the run with this reference id.
    ///
    /// # Errors
    /// [`ServerError::ReferenceNotFound`] when there is none.
    pub async fn handle_by_reference<I, O, E>(
        &self,
        workflow: &WorkflowVersion<I, O, E>,
        reference_id: &str,
    ) -> Result<RunHandle<O, E>, ServerError> {
        let record = self.server.get_run_by_reference(workflow.key(), reference_id).await?;
        Ok(RunHandle::new(self.clone(), record.id))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("namespace", self.server.namespace()).finish_non_exhaustive()
    }
}
