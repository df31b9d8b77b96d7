//! Defining a workflow.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Event;
use super::durable::Durable;
use crate::client::{Client, StartRun};
use crate::context::{Child, ChildOptions, Run};
use crate::failure::{ErrorObject, Failure, HandlerError};
use crate::name::{Name, NameError, Source, WorkflowKey};
use crate::payload::Payload;
use crate::retry::RetryStrategy;

/// What a handler with its types erased returns.
pub type HandlerFuture = Pin<Box<dyn Future<Output = Result<Option<Payload>, Failure>> + Send + 'static>>;

type Handler = Arc<dyn Fn(Run, Option<Payload>) -> HandlerFuture + Send + Sync>;

/// A workflow's name. Its code comes in versions: [`version`](Self::version).
#[derive(Clone, Debug)]
pub struct Workflow {
    name: Name,
}

impl Workflow {
    /// Names a workflow.
    ///
    /// # Panics
    /// When the name breaks the rules of [`check_name`](crate::name::check_name). For a name that is
    /// not part of the program use [`try_new`](Self::try_new).
    #[track_caller]
    pub fn new(name: impl AsRef<str>) -> Self {
        match Self::try_new(name) {
            Ok(workflow) => workflow,
            Err(error) => panic!("this workflow cannot be defined: {error}"),
        }
    }

    /// Names a workflow whose name is not known when the program is written.
    ///
    /// # Errors
    /// [`NameError`] when the name breaks the rules.
    pub fn try_new(name: impl AsRef<str>) -> Result<Self, NameError> {
        Ok(Self { name: Name::checked(name)? })
    }

    /// The name.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// Defines one version of the workflow: its code. A run stays with the version it began with.
    ///
    /// ```
    /// use aiki_core::{Failure, Run, Workflow};
    ///
    /// let double = Workflow::new("double").version("1.0.0", |_run: Run, n: u32| async move {
    ///     Ok::<_, Failure>(n * 2)
    /// });
    /// assert_eq!(double.key().to_string(), "double@1.0.0");
    /// ```
    ///
    /// # Panics
    /// When the version's name breaks the rules of [`check_name`](crate::name::check_name).
    #[track_caller]
    pub fn version<I, O, E, F, Fut>(&self, version: impl AsRef<str>, handler: F) -> WorkflowVersion<I, O, E>
    where
        I: Durable,
        O: Durable,
        E: HandlerError,
        F: Fn(Run, I) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<O, E>> + Send + 'static,
    {
        let version = match Name::checked(version) {
            Ok(version) => version,
            Err(error) => panic!("this workflow version cannot be defined: {error}"),
        };
        WorkflowVersion {
            key: WorkflowKey { source: Source::User, name: self.name.clone(), version },
            retry: RetryStrategy::Never,
            events: Arc::from([]),
            handler: erase(handler),
            types: PhantomData,
        }
    }
}

/// One version of a workflow: what a worker serves and a client starts.
pub struct WorkflowVersion<I, O, E = Failure> {
    key: WorkflowKey,
    retry: RetryStrategy,
    events: Arc<[String]>,
    handler: Handler,
    types: PhantomData<fn(I) -> (O, E)>,
}

impl<I, O, E> WorkflowVersion<I, O, E> {
    /// Name and version.
    pub fn key(&self) -> &WorkflowKey {
        &self.key
    }

    /// Says how a run is repeated as a whole when its handler fails.
    ///
    /// A new attempt starts the handler from the top. What is on record stays: completed tasks are not
    /// run again, sleeps that are over are not slept again, and `run.now()` returns the times of the
    /// first attempt for the calls that were made then. Tasks that failed are opened anew: they run
    /// again, under a new [idempotency key](crate::TaskContext::idempotency_key).
    pub fn retry(mut self, strategy: RetryStrategy) -> Self {
        self.retry = strategy.normalized();
        self
    }

    /// Declares an event that runs of this version wait for. Only declared events can be waited for and
    /// sent.
    pub fn event<T>(mut self, event: &Event<T>) -> Self {
        self.events = self.events.iter().cloned().chain([event.name().to_owned()]).collect();
        self
    }

    /// The names of the declared events.
    pub fn events(&self) -> &[String] {
        &self.events
    }

    pub(crate) fn declared(&self) -> &Arc<[String]> {
        &self.events
    }

    /// Starts a run as a child of another: it is recorded in the parent, which can wait for it. When
    /// the parent is cancelled, so are its children. To say more about it, begin with
    /// [`child`](Self::child).
    ///
    /// ```
    /// # use aiki_core::{Failure, Run, Workflow};
    /// let double = Workflow::new("double").version("1.0.0", |_: Run, n: u32| async move { Ok::<_, Failure>(n * 2) });
    /// let sum = Workflow::new("sum").version("1.0.0", move |run: Run, n: u32| {
    ///     let double = double.clone();
    ///     async move {
    ///         let children: Vec<_> = (1..=n).map(|n| double.start_child(&run, n)).collect();
    ///         let mut sum = 0;
    ///         for child in &children {
    ///             sum += child.wait().await?;
    ///         }
    ///         Ok::<_, Failure>(sum)
    ///     }
    /// });
    /// # let _ = sum;
    /// ```
    #[track_caller]
    pub fn start_child<'run>(&self, run: &'run Run, input: I) -> Child<'run, O, E>
    where
        I: Durable,
    {
        self.child().start(run, input)
    }

    /// Says more about a child before it is started.
    pub fn child(&self) -> ChildOptions<I, O, E> {
        ChildOptions::new(self.key.clone(), self.retry.clone())
    }

    /// Starts a run: await the answer, or say more about it first.
    ///
    /// ```no_run
    /// # use aiki_core::{Client, Failure, Run, Workflow};
    /// # async fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
    /// # let double = Workflow::new("double").version("1.0.0", |_: Run, n: u32| async move { Ok::<_, Failure>(n * 2) });
    /// let handle = double.start(&client, 21).reference_id("the-answer").await?;
    /// assert_eq!(handle.wait().await?, 42);
    /// # Ok(()) }
    /// ```
    pub fn start(&self, client: &Client, input: I) -> StartRun<O, E>
    where
        I: Durable,
    {
        StartRun::new(client, self.key.clone(), self.retry.clone(), Payload::encode(&input), self.events.clone())
    }

    /// The version with its types erased, as a registry keeps it.
    pub fn register(&self) -> RegisteredWorkflow {
        let (key, retry) = (self.key.clone(), self.retry.clone());
        RegisteredWorkflow { key, retry, events: self.events.clone(), handler: self.handler.clone() }
    }
}

impl<I, O, E> Clone for WorkflowVersion<I, O, E> {
    fn clone(&self) -> Self {
        let (key, retry) = (self.key.clone(), self.retry.clone());
        Self { key, retry, events: self.events.clone(), handler: self.handler.clone(), types: PhantomData }
    }
}

impl<I, O, E> std::fmt::Debug for WorkflowVersion<I, O, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkflowVersion").field("key", &self.key).field("retry", &self.retry).finish_non_exhaustive()
    }
}

/// A workflow version with its types erased.
#[derive(Clone)]
pub struct RegisteredWorkflow {
    key: WorkflowKey,
    retry: RetryStrategy,
    events: Arc<[String]>,
    handler: Handler,
}

impl RegisteredWorkflow {
    /// Name and version.
    pub fn key(&self) -> &WorkflowKey {
        &self.key
    }

    /// How the run is repeated when the options stored with it do not say.
    pub fn retry(&self) -> &RetryStrategy {
        &self.retry
    }

    pub(crate) fn with_source(mut self, source: Source) -> Self {
        self.key.source = source;
        self
    }

    /// The names of the events that it declares.
    pub fn events(&self) -> &Arc<[String]> {
        &self.events
    }

    /// Calls the handler: nothing of it runs before the future is polled, unless it is a closure
    /// that does work of its own.
    pub fn call(&self, run: Run, input: Option<Payload>) -> HandlerFuture {
        (self.handler)(run, input)
    }
}

impl<I, O, E> From<WorkflowVersion<I, O, E>> for RegisteredWorkflow {
    fn from(workflow: WorkflowVersion<I, O, E>) -> Self {
        workflow.register()
    }
}

impl<I, O, E> From<&WorkflowVersion<I, O, E>> for RegisteredWorkflow {
    fn from(workflow: &WorkflowVersion<I, O, E>) -> Self {
        workflow.register()
    }
}

impl std::fmt::Debug for RegisteredWorkflow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegisteredWorkflow").field("key", &self.key).finish_non_exhaustive()
    }
}

/// An input that cannot be read, or an output that cannot be written, fails the run for good: trying
/// again cannot mend it.
fn erase<I, O, E, F, Fut>(handler: F) -> Handler
where
    I: DeserializeOwned + Send + 'static,
    O: Serialize + Send + 'static,
    E: HandlerError,
    F: Fn(Run, I) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<O, E>> + Send + 'static,
{
    let refuse = |name: &str, error: &crate::payload::PayloadError| {
        Failure::from_object(ErrorObject::from_error(name, error)).never_retry()
    };
    Arc::new(move |run, input| {
        let input = match Payload::decode::<I>(input.as_ref()) {
            Ok(input) => input,
            Err(error) => return Box::pin(std::future::ready(Err(refuse("WorkflowInputError", &error)))),
        };
        let future = handler(run, input);
        Box::pin(async move {
            let output = future.await.map_err(HandlerError::into_failure)?;
            Payload::encode(&output).map_err(|error| refuse("WorkflowOutputError", &error))
        })
    })
}
