//! Defining a task.

use std::future::Future;
use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::durable::Durable;
use crate::context::{Run, TaskBody, TaskContext, TaskFuture};
use crate::failure::{ErrorObject, Failure, HandlerError};
use crate::name::{NameError, check_name};
use crate::payload::Payload;
use crate::replay::TaskLimits;
use crate::retry::RetryStrategy;

/// A task: a piece of work with effects outside of the workflow. Its result is recorded; once it is,
/// the body never runs again for that call.
///
/// A body may run more than once before its result is recorded: after an error, by the
/// [retry strategy](RetryStrategy), and after a crash. Use
/// [`TaskContext::idempotency_key`] where the outside can recognise a repetition.
///
/// ```
/// use std::time::Duration;
/// use aiki_core::{Failure, RetryStrategy, Task, TaskContext};
///
/// // A plain async fn ...
/// async fn greet(_: TaskContext, name: String) -> Result<String, Failure> {
///     Ok(format!("Hello {name}"))
/// }
/// let greet = Task::new("greet", greet);
///
/// // ... or a closure that captures what it needs.
/// let prefix = "Bye".to_owned();
/// let part = Task::new("part", move |_: TaskContext, name: String| {
///     let text = format!("{prefix} {name}");
///     async move { Ok::<_, Failure>(text) }
/// })
/// .retry(RetryStrategy::exponential(3, Duration::from_secs(1)));
/// assert_eq!(part.name(), "part");
/// # let _ = greet;
/// ```
pub struct Task<I, O, E = Failure> {
    name: Arc<str>,
    retry: RetryStrategy,
    retry_if: Option<Retryable<E>>,
    limits: TaskLimits,
    handler: Arc<dyn Fn(TaskContext, I) -> AttemptFuture<O, E> + Send + Sync>,
    body: TaskBody,
    types: PhantomData<fn(I) -> (O, E)>,
}

type Retryable<E> = Arc<dyn Fn(&E) -> bool + Send + Sync>;
type AttemptFuture<O, E> = std::pin::Pin<Box<dyn Future<Output = Result<O, E>> + Send>>;

impl<I, O, E> Task<I, O, E> {
    /// Defines a task. It is not retried unless [`retry`](Self::retry) says so.
    ///
    /// # Panics
    /// When the name breaks the rules of [`check_name`]. Names are part of the program; for one that
    /// is not, use [`try_new`](Self::try_new).
    #[track_caller]
    pub fn new<F, Fut>(name: impl AsRef<str>, handler: F) -> Self
    where
        I: Durable,
        O: Durable,
        E: HandlerError,
        F: Fn(TaskContext, I) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<O, E>> + Send + 'static,
    {
        match Self::try_new(name, handler) {
            Ok(task) => task,
            Err(error) => panic!("this task cannot be defined: {error}"),
        }
    }

    /// Defines a task whose name is not known when the program is written.
    ///
    /// # Errors
    /// [`NameError`] when the name breaks the rules of [`check_name`].
    pub fn try_new<F, Fut>(name: impl AsRef<str>, handler: F) -> Result<Self, NameError>
    where
        I: Durable,
        O: Durable,
        E: HandlerError,
        F: Fn(TaskContext, I) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<O, E>> + Send + 'static,
    {
        check_name(name.as_ref())?;
        let handler: Arc<dyn Fn(TaskContext, I) -> AttemptFuture<O, E> + Send + Sync> =
            Arc::new(move |cx, input| Box::pin(handler(cx, input)));
        Ok(Self {
            name: Arc::from(name.as_ref()),
            retry: RetryStrategy::Never,
            retry_if: None,
            limits: TaskLimits::default(),
            body: erase(handler.clone(), None),
            handler,
            types: PhantomData,
        })
    }

    /// Says how failed attempts are repeated. A strategy of no attempts or no delay counts as one
    /// attempt and 1 ms.
    pub fn retry(mut self, strategy: RetryStrategy) -> Self {
        self.retry = strategy.normalized();
        self
    }

    /// Limits every attempt to `limit`, from the start of its body to its end. An attempt that takes
    /// longer is told by its [cancellation token](TaskContext::cancellation), has 100 ms to clean up,
    /// and counts as failed: the retry strategy decides how it goes on.
    ///
    /// ```
    /// use std::time::Duration;
    /// use aiki_core::{Failure, RetryStrategy, Task, TaskContext};
    ///
    /// // Goes on behind the last row that an earlier attempt has told of.
    /// let import = Task::new("import", |cx: TaskContext, rows: u64| async move {
    ///     for row in cx.checkpoint::<u64>()?.unwrap_or(0)..rows {
    ///         cx.heartbeat_with(&(row + 1))?;
    ///     }
    ///     Ok::<_, Failure>(rows)
    /// })
    /// .time_limit(Duration::from_secs(600))
    /// .heartbeat_timeout(Duration::from_secs(10))
    /// .retry(RetryStrategy::fixed(3, Duration::from_secs(1)));
    /// # let _ = import;
    /// ```
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.limits.start_to_close = Some(limit);
        self
    }

    /// An attempt that gives no [heartbeat](TaskContext::heartbeat) for so long counts as failed, like
    /// one that breaks its [time limit](Self::time_limit).
    pub fn heartbeat_timeout(mut self, limit: Duration) -> Self {
        self.limits.heartbeat = Some(limit);
        self
    }

    /// Only errors for which `retryable` holds are retried; the others fail the task at once.
    /// An untyped error says so itself: [`Failure::non_retryable`].
    pub fn retry_if(mut self, retryable: impl Fn(&E) -> bool + Send + Sync + 'static) -> Self
    where
        I: Durable,
        O: Durable,
        E: HandlerError,
    {
        let retryable: Retryable<E> = Arc::new(retryable);
        self.body = erase(self.handler.clone(), Some(retryable.clone()));
        self.retry_if = Some(retryable);
        self
    }

    /// Calls the task from a workflow. What it returns is recorded and replayed.
    ///
    /// The call takes its place in the run at once; the body runs when the future is polled. So
    /// `join!` and `FuturesUnordered` over many calls are safe.
    ///
    /// Do not wrap it into `tokio::time::timeout`: that timer is not durable, and replay would not know
    /// who won. `select` between the task and [`Run::sleep`] instead.
    ///
    /// # Errors
    /// The future resolves to [`TaskError`](crate::TaskError) when the task has failed and no retry
    /// is left.
    #[track_caller]
    pub fn start<'run>(&self, run: &'run Run, input: I) -> TaskFuture<'run, O, E>
    where
        I: Durable,
    {
        TaskFuture::open(
            run,
            self.name.clone(),
            Payload::encode(&input),
            self.retry.clone(),
            self.limits,
            self.body.clone(),
            Location::caller(),
        )
    }

    /// Runs the body once, without a workflow: for unit tests of the task itself.
    ///
    /// # Errors
    /// The handler's own error.
    pub async fn call(&self, cx: TaskContext, input: I) -> Result<O, E> {
        (self.handler)(cx, input).await
    }

    /// What an attempt that ends with `error` is taken for, by [`retry_if`](Self::retry_if) and by what the
    /// error says itself: for a [`TaskInterceptor`](crate::TaskInterceptor) that fails in the body's place.
    pub fn failure_of(&self, error: E) -> Failure
    where
        E: HandlerError,
    {
        let give_up = self.retry_if.as_ref().is_some_and(|retryable| !retryable(&error));
        let failure = error.into_failure();
        if give_up { failure.never_retry() } else { failure }
    }

    /// The task's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How failed attempts are repeated.
    pub fn retry_strategy(&self) -> &RetryStrategy {
        &self.retry
    }
}

impl<I, O, E> Clone for Task<I, O, E> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            retry: self.retry.clone(),
            retry_if: self.retry_if.clone(),
            limits: self.limits,
            handler: self.handler.clone(),
            body: self.body.clone(),
            types: PhantomData,
        }
    }
}

impl<I, O, E> std::fmt::Debug for Task<I, O, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task").field("name", &self.name).field("retry", &self.retry).finish_non_exhaustive()
    }
}

/// Reads the input, runs the handler, writes the output. What cannot be read or written will not be
/// mended by another attempt.
fn erase<I, O, E>(
    handler: Arc<dyn Fn(TaskContext, I) -> AttemptFuture<O, E> + Send + Sync>,
    retry_if: Option<Retryable<E>>,
) -> TaskBody
where
    I: DeserializeOwned + Send + 'static,
    O: Serialize + Send + 'static,
    E: HandlerError,
{
    Arc::new(move |cx, input| {
        let input = match Payload::decode::<I>(input.as_ref()) {
            Ok(input) => input,
            Err(error) => {
                let object = ErrorObject::from_error("TaskInputError", &error);
                return Box::pin(std::future::ready(Err(Failure::from_object(object).never_retry())));
            }
        };
        let attempt = handler(cx, input);
        let retry_if = retry_if.clone();
        Box::pin(async move {
            match attempt.await {
                Ok(output) => Payload::encode(&output).map_err(|error| {
                    Failure::from_object(ErrorObject::from_error("TaskOutputError", &error)).never_retry()
                }),
                Err(error) => {
                    let give_up = retry_if.is_some_and(|retryable| !retryable(&error));
                    let failure = error.into_failure();
                    Err(if give_up { failure.never_retry() } else { failure })
                }
            }
        })
    })
}
