//! Starting a run.

use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::time::Duration;

use super::{Client, RunHandle};
use crate::hash::{HashError, input_hash};
use crate::name::{Name, WorkflowKey};
use crate::payload::{Payload, PayloadError};
use crate::rank::Priority;
use crate::retry::RetryStrategy;
use crate::run::plan::CreateRun;
use crate::run::{ConflictPolicy, Reference, RunOptions};
use crate::server_client::ServerError;

/// Why a run was not started.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum StartError {
    /// The input cannot be sent.
    #[error("the workflow's input cannot be sent: {0}")]
    Input(#[from] PayloadError),
    /// The input cannot be hashed.
    #[error("the workflow's input cannot be hashed: {0}")]
    Hash(#[from] HashError),
    /// The reference id is empty or too long.
    #[error("the reference id must have 1 to {MAX_REFERENCE_LEN} bytes, it has {0}")]
    ReferenceId(usize),
    /// The server refused.
    #[error(transparent)]
    Server(#[from] ServerError),
}

/// The longest reference id, in bytes.
const MAX_REFERENCE_LEN: usize = 256;

/// A run that is about to be started. Await it, or say more about it first.
#[must_use = "a run is started when this is awaited"]
#[derive(Debug)]
pub struct StartRun<O, E> {
    client: Client,
    workflow: WorkflowKey,
    input: Result<Option<Payload>, PayloadError>,
    reference: Option<Reference>,
    options: RunOptions,
    priority: Priority,
    delay: Duration,
    types: PhantomData<fn() -> (O, E)>,
}

impl<O, E> StartRun<O, E> {
    pub(crate) fn new(
        client: &Client,
        workflow: WorkflowKey,
        retry: RetryStrategy,
        input: Result<Option<Payload>, PayloadError>,
    ) -> Self {
        let retry = (retry != RetryStrategy::Never).then_some(retry);
        Self {
            client: client.clone(),
            workflow,
            input,
            reference: None,
            options: RunOptions { retry, pool: None },
            priority: Priority::default(),
            delay: Duration::ZERO,
            types: PhantomData,
        }
    }

    /// Your own id for the run, unique per workflow version. Starting again with the same id and the
    /// same input gives the run that is there; with another input it is an error.
    pub fn reference_id(mut self, id: impl Into<String>) -> Self {
        let conflict_policy = self.reference.map(|reference| reference.conflict_policy).unwrap_or_default();
        self.reference = Some(Reference { id: id.into(), conflict_policy });
        self
    }

    /// What to do when the reference id belongs to a run with another input.
    pub fn on_conflict(mut self, policy: ConflictPolicy) -> Self {
        let id = self.reference.map(|reference| reference.id).unwrap_or_default();
        self.reference = Some(Reference { id, conflict_policy: policy });
        self
    }

    /// Waits this long before the run is ready, in whole milliseconds, rounded up.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// How the run is repeated as a whole, instead of what the workflow says.
    pub fn retry(mut self, strategy: RetryStrategy) -> Self {
        self.options.retry = Some(strategy.normalized());
        self
    }

    /// Reserves the run for the workers of a pool.
    pub fn pool(mut self, pool: impl Into<Name>) -> Self {
        self.options.pool = Some(pool.into());
        self
    }

    async fn send(self) -> Result<RunHandle<O, E>, StartError> {
        let input = self.input?;
        if let Some(reference) = &self.reference
            && !(1..=MAX_REFERENCE_LEN).contains(&reference.id.len())
        {
            return Err(StartError::ReferenceId(reference.id.len()));
        }
        let hash = input_hash(input.as_ref().map(Payload::as_str))?;
        let request = CreateRun {
            reference: self.reference,
            options: Some(self.options),
            priority: self.priority,
            delay: self.delay,
            ..CreateRun::new(self.workflow, input, hash)
        };
        let created = self.client.server().create_run(request).await?;
        Ok(RunHandle::new(self.client, created.id).with_existed(created.existed))
    }
}

impl<O, E> IntoFuture for StartRun<O, E>
where
    O: 'static,
    E: 'static,
{
    type Output = Result<RunHandle<O, E>, StartError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}
