//! The future of a task's call, and what the task's body is given.

use std::any::Any;
use std::future::Future;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use serde::de::DeserializeOwned;

use super::run::Run;
use super::shared::Shared;
use crate::cancel::CancellationToken;
use crate::failure::{ErrorObject, FailedTask, Failure, HandlerError, TaskError};
use crate::hash::input_hash;
use crate::id::{RunId, TaskId};
use crate::payload::{Payload, PayloadError};
use crate::replay::{StepId, StepOutcome, StepPoll, TaskCall};
use crate::retry::RetryStrategy;

pub(crate) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send + 'static>>;

/// A task's body with its types erased: one call is one attempt.
pub(crate) type TaskBody =
    Arc<dyn Fn(TaskContext, Option<Payload>) -> BoxFuture<Result<Option<Payload>, Failure>> + Send + Sync>;

/// What a task's body is told. It has no durable calls: tasks do not nest.
#[derive(Clone, Debug)]
pub struct TaskContext {
    task: TaskId,
    attempt: u64,
    cancellation: CancellationToken,
}

impl TaskContext {
    /// A context for calling a body by hand, in a unit test.
    ///
    /// ```
    /// # use aiki_core::{Failure, RunId, Task, TaskContext};
    /// # futures::executor::block_on(async {
    /// let shout = Task::new("shout", |_: TaskContext, text: String| async move {
    ///     Ok::<_, Failure>(text.to_uppercase())
    /// });
    /// let cx = TaskContext::detached(RunId::from_bits(0).task(0), 1);
    /// assert_eq!(shout.call(cx, "hello".to_owned()).await.unwrap(), "HELLO");
    /// # });
    /// ```
    pub fn detached(task: TaskId, attempt: u64) -> Self {
        Self { task, attempt, cancellation: CancellationToken::new() }
    }

    /// The task's id.
    pub fn task_id(&self) -> TaskId {
        self.task
    }

    /// The run that called the task.
    pub fn run_id(&self) -> RunId {
        self.task.run()
    }

    /// The attempt, from 1. An attempt that a crash cut short is repeated under its own number.
    pub fn attempt(&self) -> u64 {
        self.attempt
    }

    /// A key that is the same for every attempt of this task and for no other task. Hand it to
    /// services that can recognise a repeated request. When the run as a whole is retried, a task
    /// that had failed is a new task with a new key.
    pub fn idempotency_key(&self) -> String {
        self.task.to_string()
    }

    /// Is cancelled when the worker has lost the run, or must stop and cannot wait any longer. The body
    /// then has a moment to clean up (100 ms after a loss, 400 ms at a stop) before it is dropped; what
    /// it returns is not recorded. A loss, such as a cancelled run, is noticed with the next report or
    /// heartbeat of the worker.
    pub fn cancellation(&self) -> &CancellationToken {
        &self.cancellation
    }
}

/// The future of a task's call. It resolves when the task has ended for good.
///
/// The task takes its place in the run when it is called; its body runs when the future is polled.
/// Dropping the future drops the body.
#[must_use = "the task takes its place in the run, but its body runs only when this is awaited"]
pub struct TaskFuture<'run, O, E> {
    shared: &'run Arc<Shared>,
    step: Result<StepId, Option<ErrorObject>>,
    name: Arc<str>,
    input: Option<Payload>,
    body: TaskBody,
    attempt: Option<BoxFuture<Result<Option<Payload>, Failure>>>,
    done: bool,
    output: PhantomData<fn() -> (O, E)>,
}

impl<'run, O, E> TaskFuture<'run, O, E> {
    pub(crate) fn open(
        run: &'run Run,
        name: Arc<str>,
        input: Result<Option<Payload>, PayloadError>,
        retry: RetryStrategy,
        body: TaskBody,
        location: &'static Location<'static>,
    ) -> Self {
        let shared = &run.shared;
        let opened = open_step(shared, &name, input, retry, location);
        let (step, input) = match opened {
            Ok((step, input)) => (Ok(step), input),
            Err(error) => (Err(Some(error)), None),
        };
        Self { shared, step, name, input, body, attempt: None, done: false, output: PhantomData }
    }

    /// Polls the body of the attempt under way. A panic is a failure of the task, not of the worker.
    fn poll_attempt(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Payload>, Failure>> {
        let Some(attempt) = &mut self.attempt else { return Poll::Pending };
        let poll = match catch_unwind(AssertUnwindSafe(|| attempt.as_mut().poll(cx))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(result)) => result,
            Err(panic) => Err(Failure::from_object(panicked(panic.as_ref()))),
        };
        self.attempt = None;
        let limit = self.shared.lock().machine.payload_limit();
        Poll::Ready(poll.and_then(|output| {
            Payload::check_size(output.as_ref(), limit).map_err(|error| Failure::from(error).never_retry())?;
            Ok(output)
        }))
    }
}

/// Checks and hashes the input and takes the task's place in the run.
fn open_step(
    shared: &Arc<Shared>,
    name: &Arc<str>,
    input: Result<Option<Payload>, PayloadError>,
    retry: RetryStrategy,
    location: &'static Location<'static>,
) -> Result<(StepId, Option<Payload>), ErrorObject> {
    let refuse = |error: &dyn std::error::Error| ErrorObject::from_error("TaskInputError", error);
    let input = input.map_err(|error| refuse(&error))?;
    let hash = input_hash(input.as_ref().map(Payload::as_str)).map_err(|error| refuse(&error))?;
    let mut state = shared.lock();
    Payload::check_size(input.as_ref(), state.machine.payload_limit()).map_err(|error| refuse(&error))?;
    let call = TaskCall { name: name.to_string(), input: input.clone(), input_hash: hash, retry, location };
    Ok((state.machine.open_task(call), input))
}

/// What is known of a panic.
pub(crate) fn panicked(payload: &(dyn Any + Send)) -> ErrorObject {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic whose payload is not text".to_owned());
    ErrorObject::new("HandlerPanicked", text)
}

impl<O, E> Future for TaskFuture<'_, O, E>
where
    O: DeserializeOwned,
    E: HandlerError,
{
    type Output = Result<O, TaskError<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let step = match &mut this.step {
            Ok(step) => *step,
            // The call never became a step: it fails the same way in every pass.
            Err(error) => {
                let Some(error) = error.take() else { return Poll::Pending };
                let task = FailedTask { id: this.shared.id.task(0), name: (&*this.name).into(), attempts: 0 };
                this.done = true;
                return Poll::Ready(Err(TaskError::Engine { error: Box::new(error), task }));
            }
        };
        loop {
            if this.attempt.is_some() {
                match this.poll_attempt(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(result) => {
                        let now = this.shared.clock.now();
                        this.shared.lock().machine.finish_task(step, result, now);
                    }
                }
            }
            let mut state = this.shared.lock();
            match state.machine.poll_step(step) {
                StepPoll::Pending => {
                    state.park(step, cx.waker());
                    return Poll::Pending;
                }
                StepPoll::Execute { task, attempt } => {
                    drop(state);
                    let cancellation = this.shared.cancellation.clone();
                    let context = TaskContext { task, attempt, cancellation };
                    let (body, input) = (this.body.clone(), this.input.clone());
                    // A closure may panic before it has made its future.
                    this.attempt = Some(match catch_unwind(AssertUnwindSafe(|| body(context, input))) {
                        Ok(future) => future,
                        Err(panic) => {
                            let failure = Failure::from_object(panicked(panic.as_ref()));
                            Box::pin(std::future::ready(Err(failure)))
                        }
                    });
                }
                StepPoll::Ready(outcome) => {
                    let id = state.machine.task_id(step).unwrap_or_else(|| this.shared.id.task(0));
                    drop(state);
                    this.done = true;
                    return Poll::Ready(read_outcome(outcome, id, &this.name));
                }
            }
        }
    }
}

fn read_outcome<O: DeserializeOwned, E: HandlerError>(
    outcome: StepOutcome,
    id: TaskId,
    name: &Arc<str>,
) -> Result<O, TaskError<E>> {
    match outcome {
        StepOutcome::Completed(output) => Payload::decode(output.as_ref()).map_err(|error| TaskError::Engine {
            error: Box::new(ErrorObject::from_error("TaskOutputError", &error)),
            task: FailedTask { id, name: (&**name).into(), attempts: 0 },
        }),
        StepOutcome::Failed(error, task) => Err(TaskError::from_recorded(error, task)),
        StepOutcome::Slept { .. } => Err(TaskError::Engine {
            error: Box::new(ErrorObject::new("EngineError", "a task's step ended as a sleep")),
            task: FailedTask { id, name: (&**name).into(), attempts: 0 },
        }),
    }
}

impl<O, E> Unpin for TaskFuture<'_, O, E> {}

impl<O, E> Drop for TaskFuture<'_, O, E> {
    fn drop(&mut self) {
        if let (Ok(step), false) = (&self.step, self.done) {
            self.shared.lock().machine.abandon(*step);
        }
    }
}
