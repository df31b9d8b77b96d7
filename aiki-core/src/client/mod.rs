//! What callers hold: [`Client`], the builder of a start, and the handle of a run.

mod event;
mod handle;
mod listing;
mod schedule;
mod start;

use std::fmt;
use std::sync::Arc;

pub use event::{SendEventError, SendRunEvent};
pub use handle::{RunError, RunHandle, WaitUntilError};
pub use listing::RunList;
pub use schedule::{Schedule, ScheduleError, ScheduleHandle};
pub use start::{StartError, StartRun};

use serde::Serialize;

use crate::definition::{Event, WorkflowVersion};
use crate::failure::{ErrorObject, Failure};
use crate::id::{RunId, TaskId};
use crate::payload::Payload;
use crate::run::plan::TaskTarget;
use crate::server_client::{Multicast, ServerClient, ServerError, SetTaskResult, WorkerInfo};

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
    pub fn handle<I, O, E>(&self, workflow: &WorkflowVersion<I, O, E>, run: RunId) -> RunHandle<O, E> {
        RunHandle::new(self.clone(), run, workflow.key().clone(), workflow.declared().clone())
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
        Ok(self.handle(workflow, record.id))
    }

    /// Sends an event to several runs of a workflow version, at most
    /// [`MULTICAST_LIMIT`](crate::server_client::MULTICAST_LIMIT). One that does not get it does not keep
    /// the others from it.
    ///
    /// # Errors
    /// [`SendEventError`] when nothing was sent at all.
    pub async fn multicast_event<I, O, E, T: Serialize>(
        &self,
        workflow: &WorkflowVersion<I, O, E>,
        runs: &[RunId],
        event: &Event<T>,
        data: T,
    ) -> Result<Multicast, SendEventError> {
        let (key, declared) = (workflow.key(), workflow.declared());
        SendRunEvent::new(self, key, declared, event, runs.to_vec(), &data).multicast().await
    }

    /// Like [`multicast_event`](Self::multicast_event), to the runs with these reference ids.
    ///
    /// # Errors
    /// [`ServerError::ReferenceNotFound`] for an id without a run; nothing is sent then.
    pub async fn multicast_event_by_reference<I, O, E, T: Serialize>(
        &self,
        workflow: &WorkflowVersion<I, O, E>,
        reference_ids: &[&str],
        event: &Event<T>,
        data: T,
    ) -> Result<Multicast, SendEventError> {
        let mut runs = Vec::with_capacity(reference_ids.len());
        for reference_id in reference_ids {
            runs.push(self.server.get_run_by_reference(workflow.key(), reference_id).await?.id);
        }
        self.multicast_event(workflow, &runs, event, data).await
    }

    /// Cancels every run of these that has not ended; answers which ones that were. Their children are
    /// cancelled after them.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn cancel_runs(&self, runs: &[RunId]) -> Result<Vec<RunId>, ServerError> {
        self.server.cancel_runs(runs).await
    }

    /// Gives a task the result that its body would have returned: for an operator who did the work by
    /// hand. The task has to be under way.
    ///
    /// # Errors
    /// [`ServerError::RunEnded`], [`ServerError::TaskNotFound`], or
    /// [`ServerError::IllegalTransition`] when the task has a result already or waits for a retry.
    pub async fn set_task_output<T: Serialize>(&self, task: TaskId, output: &T) -> Result<(), ServerError> {
        let output = Payload::encode(output).map_err(|error| ServerError::Invalid(error.to_string()))?;
        self.set_task_result(task, Ok(output)).await
    }

    /// Fails a task in the place of its body. See [`set_task_output`](Self::set_task_output).
    ///
    /// # Errors
    /// As there.
    pub async fn fail_task(&self, task: TaskId, failure: Failure) -> Result<(), ServerError> {
        self.set_task_result(task, Err(failure.into_object())).await
    }

    async fn set_task_result(
        &self,
        task: TaskId,
        result: Result<Option<Payload>, ErrorObject>,
    ) -> Result<(), ServerError> {
        let request = SetTaskResult { run: task.run(), target: TaskTarget::Existing(task), result };
        self.server.set_task_result(request).await
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("namespace", self.server.namespace()).finish_non_exhaustive()
    }
}
