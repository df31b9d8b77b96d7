//! The handle of a run.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Client;
use super::SendRunEvent;
use crate::definition::Event;
use crate::failure::{ErrorObject, HandlerError};
use crate::id::RunId;
use crate::name::WorkflowKey;
use crate::payload::{Payload, PayloadError};
use crate::run::export::RunExport;
use crate::run::plan::{DEADLINE_EXCEEDED, RunCommand};
use crate::run::record::TransitionRecord;
use crate::run::{RunRecord, RunState, RunStatus};
use crate::server_client::{RunView, ServerError};

/// One long poll lasts at most this long; `wait` then asks again.
const LONG_POLL: Duration = Duration::from_secs(30);

/// The pauses between two looks at a run that is to be in some state.
const FIRST_LOOK: Duration = Duration::from_millis(10);
const LONGEST_LOOK: Duration = Duration::from_millis(500);

/// A run did not come to be in the state that was waited for.
#[derive(Clone, PartialEq, thiserror::Error)]
pub enum WaitUntilError {
    /// It took too long.
    #[error("the run is {status} after {timeout:?}, and not as it was waited for")]
    Elapsed {
        /// How long it was waited for.
        timeout: Duration,
        /// Where the run stands.
        status: RunStatus,
    },
    /// The run has ended in another state.
    #[error("the run is {0}, and will never be as it was waited for")]
    Ended(RunStatus),
    /// The server could not be asked.
    #[error(transparent)]
    Server(#[from] ServerError),
}

crate::debug_as_display!(WaitUntilError);

/// Why a run has no result.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RunError<E> {
    /// The handler returned this error.
    #[error("{0}")]
    Failed(E),
    /// The run failed in a way that its own error type cannot express: the handler panicked, its code
    /// diverged from the record, its input could not be read. The untyped [`Failure`](crate::Failure)
    /// can express everything: with it, these arrive as [`Failed`](Self::Failed).
    #[error("the run failed: {0}")]
    Engine(Box<ErrorObject>),
    /// The run did not end before its deadline.
    #[error("the run did not end before its deadline")]
    TimedOut,
    /// The run was cancelled.
    #[error("the run was cancelled{}", explanation.as_ref().map(|text| format!(": {text}")).unwrap_or_default())]
    Cancelled {
        /// What the one who cancelled it said.
        explanation: Option<String>,
    },
    /// The run completed with an output that the workflow's type cannot read.
    #[error("the run's output cannot be read: {0}")]
    Output(PayloadError),
    /// The server could not be asked.
    #[error(transparent)]
    Server(#[from] ServerError),
}

/// A run that was started, with the types of its workflow.
pub struct RunHandle<O, E> {
    client: Client,
    id: RunId,
    existed: bool,
    workflow: WorkflowKey,
    events: Arc<[String]>,
    types: PhantomData<fn() -> (O, E)>,
}

impl<O, E> RunHandle<O, E> {
    pub(crate) fn new(client: Client, id: RunId, workflow: WorkflowKey, events: Arc<[String]>) -> Self {
        Self { client, id, existed: false, workflow, events, types: PhantomData }
    }

    pub(crate) fn with_existed(mut self, existed: bool) -> Self {
        self.existed = existed;
        self
    }

    /// The run's id.
    pub fn id(&self) -> RunId {
        self.id
    }

    /// Whether the start found a run that was there already, under the same reference id.
    pub fn existed(&self) -> bool {
        self.existed
    }

    /// The run's present state.
    ///
    /// # Errors
    /// [`ServerError`] when the server cannot be asked.
    pub async fn state(&self) -> Result<RunState, ServerError> {
        Ok(self.client.server().await_run(self.id, Duration::ZERO).await?.state)
    }

    /// Waits until the run is in a state that is `wanted`, at most for about `timeout`; answers that state.
    /// A state that lasts only for a moment may be missed: the run is looked at every 10 ms at first, every
    /// 500 ms later. Cancel-safe.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use aiki_core::{Failure, RunHandle, RunState};
    /// # async fn example(handle: RunHandle<(), Failure>) -> Result<(), Box<dyn std::error::Error>> {
    /// handle.wait_until(|state| matches!(state, RunState::Sleeping { .. }), Duration::from_secs(10)).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`WaitUntilError`] when the run is not there in time, when it has ended otherwise, and when the server
    /// cannot be asked.
    pub async fn wait_until(
        &self,
        wanted: impl Fn(&RunState) -> bool + Send,
        timeout: Duration,
    ) -> Result<RunState, WaitUntilError> {
        let (mut pause, mut left) = (FIRST_LOOK, timeout);
        let mut state = self.state().await?;
        loop {
            if wanted(&state) {
                return Ok(state);
            }
            if state.is_terminal() {
                return Err(WaitUntilError::Ended(state.status()));
            }
            if left.is_zero() {
                return Err(WaitUntilError::Elapsed { timeout, status: state.status() });
            }
            // The server tells the time: a wait for the end that is in vain.
            let wait = pause.min(left);
            state = self.client.server().await_run(self.id, wait).await?.state;
            (pause, left) = ((pause * 2).min(LONGEST_LOOK), left - wait);
        }
    }

    /// The whole run: tasks, sleeps, attempts.
    ///
    /// # Errors
    /// [`ServerError`] when the server cannot be asked.
    pub async fn record(&self) -> Result<RunRecord, ServerError> {
        self.client.server().get_run(self.id).await
    }

    /// The run with its whole history, for people and other programs.
    ///
    /// # Errors
    /// [`ServerError`] when the server cannot be asked.
    pub async fn export(&self) -> Result<RunExport, ServerError> {
        self.client.server().export_run(self.id).await
    }

    /// What happened to the run and its tasks, oldest first.
    ///
    /// # Errors
    /// [`ServerError`] when the server cannot be asked.
    pub async fn transitions(&self) -> Result<Vec<TransitionRecord>, ServerError> {
        self.client.server().list_transitions(self.id).await
    }

    /// Cancels the run at once: nothing more is recorded for it. A worker that is at it notices with its
    /// next report or heartbeat, tells the bodies under way and drops them.
    ///
    /// # Errors
    /// [`ServerError::IllegalTransition`] when the run has already ended.
    pub async fn cancel(&self) -> Result<(), ServerError> {
        self.client.server().cancel_run(self.id, None).await
    }

    /// Cancels the run and says why.
    ///
    /// # Errors
    /// As [`cancel`](Self::cancel).
    pub async fn cancel_with(&self, explanation: impl Into<String>) -> Result<(), ServerError> {
        self.client.server().cancel_run(self.id, Some(explanation.into())).await
    }
}

impl<O, E> RunHandle<O, E> {
    async fn command(&self, command: RunCommand) -> Result<(), ServerError> {
        self.client.server().command_run(self.id, command).await
    }

    /// Stops work on the run until it is [resumed](Self::resume). What a worker has under way is not
    /// recorded; it is repeated then. A run that sleeps or waits cannot be paused: nobody works on it.
    ///
    /// ```no_run
    /// # use aiki_core::{Client, RunHandle, RunId, ServerError, TaskId};
    /// # async fn example(client: Client, handle: RunHandle<(), aiki_core::Failure>, others: Vec<RunId>, task: TaskId)
    /// #     -> Result<(), ServerError> {
    /// handle.pause().await?;
    /// handle.resume().await?;
    /// handle.wake_up().await?; // ends the sleep that it is in
    /// client.set_task_output(task, &"done by hand").await?;
    /// let cancelled = client.cancel_runs(&others).await?;
    /// # let _ = cancelled;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ServerError::IllegalTransition`] unless the run is scheduled, queued or running.
    pub async fn pause(&self) -> Result<(), ServerError> {
        self.command(RunCommand::Pause).await
    }

    /// Goes on with a paused run.
    ///
    /// # Errors
    /// [`ServerError::IllegalTransition`] when it is not paused.
    pub async fn resume(&self) -> Result<(), ServerError> {
        self.command(RunCommand::Resume).await
    }

    /// Ends the sleep that the run is in; with several, the one that would end first.
    ///
    /// # Errors
    /// [`ServerError::IllegalTransition`] when it does not sleep.
    pub async fn wake_up(&self) -> Result<(), ServerError> {
        self.command(RunCommand::WakeUp).await
    }

    /// Sends a stalled run back to work.
    ///
    /// # Errors
    /// [`ServerError::IllegalTransition`] when it is not stalled.
    pub async fn requeue(&self) -> Result<(), ServerError> {
        self.command(RunCommand::Requeue).await
    }

    /// Sends an event to the run: await the answer, or give it a reference id first. The run keeps it
    /// until it waits for it.
    pub fn send_event<T: Serialize>(&self, event: &Event<T>, data: T) -> SendRunEvent {
        SendRunEvent::new(&self.client, &self.workflow, &self.events, event, vec![self.id], &data)
    }

    /// Whether the run is ready but waits for a worker that serves its workflow version and pool, and
    /// none is there.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn is_unserved(&self) -> Result<bool, ServerError> {
        Ok(self.client.server().await_run(self.id, Duration::ZERO).await?.unserved)
    }
}

impl<O: DeserializeOwned, E: HandlerError> RunHandle<O, E> {
    /// Waits until the run has ended and returns its output, or the handler's own error. Long polls;
    /// there is no busy loop. Cancel-safe.
    ///
    /// # Errors
    /// [`RunError`] when the run did not complete, or the server cannot be asked.
    pub async fn wait(&self) -> Result<O, RunError<E>> {
        loop {
            let RunView { state, .. } = self.client.server().await_run(self.id, LONG_POLL).await?;
            match state {
                RunState::Completed { output } => {
                    return Payload::decode(output.as_ref()).map_err(RunError::Output);
                }
                RunState::Cancelled { explanation } => return Err(RunError::Cancelled { explanation }),
                RunState::Failed { cause } => {
                    let error = cause.error().cloned().unwrap_or_else(|| {
                        ErrorObject::new("RunFailed", "the run failed and its worker did not tell the error")
                    });
                    if error.name == DEADLINE_EXCEEDED && error.data.is_none() {
                        return Err(RunError::TimedOut);
                    }
                    return Err(
                        E::from_object(error).map_or_else(|error| RunError::Engine(Box::new(error)), RunError::Failed)
                    );
                }
                _ => {}
            }
        }
    }
}

impl<O, E> Clone for RunHandle<O, E> {
    fn clone(&self) -> Self {
        let (workflow, events) = (self.workflow.clone(), self.events.clone());
        Self { client: self.client.clone(), id: self.id, existed: self.existed, workflow, events, types: PhantomData }
    }
}

impl<O, E> fmt::Debug for RunHandle<O, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunHandle").field("id", &self.id).finish_non_exhaustive()
    }
}
