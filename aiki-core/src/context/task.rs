//! The future of a task's call, and what the task's body is given.

use std::any::Any;
use std::future::Future;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::progress::Progress;
use super::run::Run;
use super::shared::Shared;
use crate::cancel::CancellationToken;
use crate::failure::{ErrorObject, FailedTask, Failure, HandlerError, TaskError};
use crate::gate::TaskTurn;
use crate::hash::input_hash;
use crate::id::{RunId, TaskId};
use crate::intercept::TaskAttempt;
use crate::payload::{Payload, PayloadError};
use crate::replay::{StepId, StepOutcome, StepPoll, TaskCall, TaskLimits};
use crate::retry::RetryStrategy;
use crate::time::Timestamp;

pub(crate) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send + 'static>>;

/// A task's body with its types erased: one call is one attempt.
pub(crate) type TaskBody =
    Arc<dyn Fn(TaskContext, Option<Payload>) -> BoxFuture<Result<Option<Payload>, Failure>> + Send + Sync>;

/// What a task's body is told. It has no durable calls: tasks do not nest.
#[derive(Clone, Debug)]
pub struct TaskContext {
    task: TaskId,
    attempt: u64,
    deadline: Option<Timestamp>,
    cancellation: CancellationToken,
    checkpoint: Option<Payload>,
    progress: Arc<Progress>,
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
        let cancellation = CancellationToken::new();
        Self { task, attempt, deadline: None, cancellation, checkpoint: None, progress: Arc::default() }
    }

    /// The same context as if an earlier attempt had left this checkpoint: for unit tests.
    ///
    /// # Errors
    /// [`PayloadError`] when the checkpoint's `Serialize` fails.
    pub fn with_checkpoint<C: Serialize>(mut self, checkpoint: &C) -> Result<Self, PayloadError> {
        self.checkpoint = Some(Payload::of(checkpoint)?);
        Ok(self)
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

    /// When the run fails if it has not ended by then. A body that calls other services can pass it on.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.deadline
    }

    /// Says that the body makes progress: its [heartbeat limit](crate::Task::heartbeat_timeout) begins
    /// anew.
    pub fn heartbeat(&self) {
        self.progress.tell(None);
    }

    /// Says how far the body has got. If this attempt fails or its worker dies, the next attempt finds
    /// the latest such [`checkpoint`](Self::checkpoint). It is also a heartbeat. Checkpoints are
    /// recorded at most once a second, so the last second before a crash may be missing.
    ///
    /// # Errors
    /// [`PayloadError`] when the checkpoint's `Serialize` fails; nothing is said then.
    pub fn heartbeat_with<C: Serialize>(&self, checkpoint: &C) -> Result<(), PayloadError> {
        self.progress.tell(Some(Payload::of(checkpoint)?));
        Ok(())
    }

    /// How far an earlier attempt said that it got; `None` when none did.
    ///
    /// # Errors
    /// [`PayloadError::Decode`] when the checkpoint is of another type.
    pub fn checkpoint<C: DeserializeOwned>(&self) -> Result<Option<C>, PayloadError> {
        self.checkpoint.as_ref().map(|checkpoint| Payload::decode(Some(checkpoint))).transpose()
    }

    /// Is cancelled when the attempt has taken too long, when the worker has lost the run, or when it must
    /// stop and cannot wait any longer. The body then has a moment to clean up (100 ms, at a stop 400 ms)
    /// before it is dropped; what it returns is not recorded.
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
    attempt: Option<Attempt>,
    done: bool,
    output: PhantomData<fn() -> (O, E)>,
}

impl<'run, O, E> TaskFuture<'run, O, E> {
    pub(crate) fn open(
        run: &'run Run,
        name: Arc<str>,
        input: Result<Option<Payload>, PayloadError>,
        retry: RetryStrategy,
        limits: TaskLimits,
        body: TaskBody,
        location: &'static Location<'static>,
    ) -> Self {
        let shared = &run.shared;
        let opened = open_step(shared, &name, input, (retry, limits), location);
        let (step, input) = match opened {
            Ok((step, input)) => (Ok(step), input),
            Err(error) => (Err(Some(error)), None),
        };
        Self { shared, step, name, input, body, attempt: None, done: false, output: PhantomData }
    }

    /// Begins an attempt: waits for its turn where the worker limits how many run at once, then runs
    /// the body.
    fn begin(&mut self, task: TaskId, attempt: u64, checkpoint: Option<Payload>) {
        let cancellation = self.shared.cancellation.child();
        let progress = Arc::new(Progress::default());
        let deadline = self.shared.deadline;
        let context = TaskContext {
            task,
            attempt,
            deadline,
            cancellation: cancellation.clone(),
            checkpoint,
            progress: progress.clone(),
        };
        let turn = self.shared.gate.as_ref().map(|gate| gate.enter(&self.name));
        let stage = match turn {
            Some(turn) => Stage::Waiting(turn, context),
            None => self.call(context, None),
        };
        self.attempt = Some(Attempt { cancellation, progress, stage });
    }

    /// Calls the body. A closure may panic before it has made its future.
    fn call(&self, context: TaskContext, turn: Option<TaskTurn>) -> Stage {
        if let Ok(step) = self.step {
            let now = self.shared.clock.now();
            self.shared.lock().machine.begin_attempt(step, now);
        }
        let (body, input) = (self.body.clone(), self.input.clone());
        let begin = || match &self.shared.interceptor {
            None => body(context, input),
            Some(interceptor) => {
                let (workflow, name) = (self.shared.workflow.clone(), self.name.clone());
                interceptor.attempt(TaskAttempt { workflow, name, context, input, body })
            }
        };
        let future = match catch_unwind(AssertUnwindSafe(begin)) {
            Ok(future) => future,
            Err(panic) => {
                let failure = Failure::from_object(panicked(panic.as_ref()));
                Box::pin(std::future::ready(Err(failure)))
            }
        };
        Stage::Running(future, turn)
    }

    /// Polls the attempt under way. A panic is a failure of the task, not of the worker.
    fn poll_attempt(&mut self, step: StepId, cx: &mut Context<'_>) -> Poll<Result<Option<Payload>, Failure>> {
        loop {
            let Some(attempt) = &mut self.attempt else { return Poll::Pending };
            match &mut attempt.stage {
                Stage::Waiting(turn, _) => {
                    let Poll::Ready(turn) = turn.as_mut().poll(cx) else { return Poll::Pending };
                    let waiting = std::mem::replace(&mut attempt.stage, Stage::Over);
                    let Stage::Waiting(_, context) = waiting else { return Poll::Pending };
                    let running = self.call(context, Some(turn));
                    if let Some(attempt) = &mut self.attempt {
                        attempt.stage = running;
                    }
                    // The machine has set its timers: the host asks for the next one.
                    continue;
                }
                Stage::Running(future, _) => {
                    let poll = match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
                        Ok(Poll::Pending) => None,
                        Ok(Poll::Ready(result)) => Some(result),
                        Err(panic) => Some(Err(Failure::from_object(panicked(panic.as_ref())))),
                    };
                    let news = attempt.progress.take(cx.waker());
                    let mut state = self.shared.lock();
                    let limit = state.machine.payload_limit();
                    if let Some(checkpoint) = news {
                        let now = self.shared.clock.now();
                        // A checkpoint that is too large cannot be recorded; the heartbeat counts.
                        let checkpoint = checkpoint.filter(|checkpoint| checkpoint.as_str().len() <= limit);
                        state.machine.heartbeat(step, checkpoint, now);
                    }
                    drop(state);
                    let Some(result) = poll else { return Poll::Pending };
                    self.attempt = None;
                    return Poll::Ready(result.and_then(|output| {
                        let size = Payload::check_size(output.as_ref(), limit);
                        size.map_err(|error| Failure::from(error).never_retry())?;
                        Ok(output)
                    }));
                }
                Stage::Over => return Poll::Pending,
            }
        }
    }
}

/// One attempt of a task.
struct Attempt {
    cancellation: CancellationToken,
    progress: Arc<Progress>,
    stage: Stage,
}

enum Stage {
    /// The worker runs as many tasks of the name as it may.
    Waiting(BoxFuture<TaskTurn>, TaskContext),
    Running(
        BoxFuture<Result<Option<Payload>, Failure>>,
        #[allow(dead_code, reason = "held until the body ends")] Option<TaskTurn>,
    ),
    Over,
}

/// Checks and hashes the input and takes the task's place in the run.
fn open_step(
    shared: &Arc<Shared>,
    name: &Arc<str>,
    input: Result<Option<Payload>, PayloadError>,
    (retry, limits): (RetryStrategy, TaskLimits),
    location: &'static Location<'static>,
) -> Result<(StepId, Option<Payload>), ErrorObject> {
    let refuse = |error: &dyn std::error::Error| ErrorObject::from_error("TaskInputError", error);
    let input = input.map_err(|error| refuse(&error))?;
    let hash = input_hash(input.as_ref().map(Payload::as_str)).map_err(|error| refuse(&error))?;
    let mut state = shared.lock();
    Payload::check_size(input.as_ref(), state.machine.payload_limit()).map_err(|error| refuse(&error))?;
    let call = TaskCall { name: name.to_string(), input: input.clone(), input_hash: hash, retry, limits, location };
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
            if this.attempt.is_some()
                && let Poll::Ready(result) = this.poll_attempt(step, cx)
            {
                let now = this.shared.clock.now();
                this.shared.lock().machine.finish_task(step, result, now);
            }
            let mut state = this.shared.lock();
            match state.machine.poll_step(step) {
                StepPoll::Pending => {
                    state.park(step, cx.waker());
                    return Poll::Pending;
                }
                StepPoll::Execute { task, attempt, checkpoint } => {
                    drop(state);
                    this.begin(task, attempt, checkpoint);
                }
                StepPoll::Overdue(_) => {
                    drop(state);
                    if let Some(attempt) = &this.attempt {
                        attempt.cancellation.cancel();
                    }
                }
                StepPoll::Abandoned(limit) => {
                    drop(state);
                    this.attempt = None;
                    let now = this.shared.clock.now();
                    let failure = Failure::from_object(limit.error());
                    this.shared.lock().machine.finish_task(step, Err(failure), now);
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
        _ => Err(TaskError::Engine {
            error: Box::new(ErrorObject::new("EngineError", "a task's step ended as another kind of step")),
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
