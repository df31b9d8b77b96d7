//! Starting a run.

use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::{Client, RunHandle};
use crate::hash::{HashError, input_hash};
use crate::name::{Name, WorkflowKey};
use crate::payload::{Payload, PayloadError};
use crate::rank::Priority;
use crate::retry::RetryStrategy;
use crate::run::head::ConcurrencyKey;
use crate::run::plan::{CreateRun, Deadline};
use crate::run::{ConflictPolicy, Reference, RunOptions};
use crate::server_client::ServerError;
use crate::time::Timestamp;
use crate::trace::TraceParent;

/// Why a run was not started.
#[derive(Clone, PartialEq, thiserror::Error)]
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

crate::debug_as_display!(StartError);

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
    deadline: Option<Deadline>,
    concurrency: Option<ConcurrencyKey>,
    trace: Option<TraceParent>,
    events: Arc<[String]>,
    types: PhantomData<fn() -> (O, E)>,
}

impl<O, E> StartRun<O, E> {
    pub(crate) fn new(
        client: &Client,
        workflow: WorkflowKey,
        retry: RetryStrategy,
        input: Result<Option<Payload>, PayloadError>,
        events: Arc<[String]>,
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
            deadline: None,
            concurrency: None,
            trace: None,
            events,
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

    /// Says how urgent the run is. A run of a higher priority goes before others that became ready up to
    /// [`HEAD_START_MS`](crate::rank::HEAD_START_MS) earlier for each step between them, so that the
    /// others are served in the end.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use aiki_core::{Client, Failure, Priority, Run, StartError, Workflow};
    /// # async fn example(client: Client) -> Result<(), StartError> {
    /// # let pay = Workflow::new("pay").version("1.0.0", |_: Run, n: u32| async move { Ok::<_, Failure>(n) });
    /// let handle = pay
    ///     .start(&client, 42)
    ///     .priority(Priority::High)
    ///     .time_limit(Duration::from_secs(3_600))
    ///     .concurrency("customer-7", 2)
    ///     .await?;
    /// # let _ = handle;
    /// # Ok(()) }
    /// ```
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// The run fails when it has not ended by then, by the server's clock. Its tasks and children end with
    /// it. A deadline in the past is refused.
    pub fn deadline(mut self, at: Timestamp) -> Self {
        self.deadline = Some(Deadline::At(at));
        self
    }

    /// The run fails when it has not ended so long after its start. See [`deadline`](Self::deadline).
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.deadline = Some(Deadline::Within(limit));
        self
    }

    /// At most `limit` runs that share this key are worked on at the same time, whatever their workflow;
    /// the others wait. Runs that sleep or wait do not count. The limit of the run that is about to be
    /// taken is what counts.
    pub fn concurrency(mut self, key: impl Into<String>, limit: u32) -> Self {
        self.concurrency = Some(ConcurrencyKey { key: key.into(), limit });
        self
    }

    /// Makes the run a part of a trace. The worker's span for it has the fields `trace_id` and `trace_parent`, and
    /// its children belong to the same trace.
    pub fn trace(mut self, parent: TraceParent) -> Self {
        self.trace = Some(parent);
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
            deadline: self.deadline,
            concurrency: self.concurrency,
            trace: self.trace,
            ..CreateRun::new(self.workflow.clone(), input, hash)
        };
        let created = self.client.server().create_run(request).await?;
        Ok(RunHandle::new(self.client, created.id, self.workflow, self.events).with_existed(created.existed))
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
