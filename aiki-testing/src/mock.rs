//! Standing in for the bodies of tasks.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aiki_core::definition::Task;
use aiki_core::failure::HandlerError;
use aiki_core::intercept::{AttemptFuture, AttemptResult};
use aiki_core::{Failure, Payload, TaskAttempt, TaskContext, TaskId};
use serde::Serialize;
use serde::de::DeserializeOwned;

type Body = Arc<dyn Fn(TaskContext, Option<Payload>) -> AttemptFuture + Send + Sync>;

/// What a mock does once it has failed as often as it should.
#[derive(Clone, Default)]
enum Answer {
    /// Nobody has said it.
    #[default]
    Unsaid,
    Always(AttemptResult),
    /// One for each call; the calls that have theirs keep it, attempt after attempt.
    Each {
        left: VecDeque<Option<Payload>>,
        given: HashMap<TaskId, Option<Payload>>,
        total: usize,
    },
    Body(Body),
}

#[derive(Clone, Default)]
struct Plan {
    failures: VecDeque<(usize, Failure)>,
    answer: Answer,
    takes: Duration,
}

impl Plan {
    fn next(&mut self, name: &str, task: TaskId) -> Next {
        if let Some((left, failure)) = self.failures.front_mut() {
            let failure = failure.clone();
            *left -= 1;
            if *left == 0 {
                self.failures.pop_front();
            }
            return Next::Result(Err(failure));
        }
        match &mut self.answer {
            Answer::Unsaid => Next::Result(Err(Failure::non_retryable(
                "MockWithoutAnswer",
                format!("the mock of task `{name}` does not know what to answer: add `.returns(..)` or `.with(..)`"),
            ))),
            Answer::Always(result) => Next::Result(result.clone()),
            Answer::Each { left, given, total } => {
                let known = given.get(&task).cloned();
                match known.or_else(|| left.pop_front()) {
                    Some(value) => {
                        given.insert(task, value.clone());
                        Next::Result(Ok(value))
                    }
                    None => Next::Result(Err(Failure::non_retryable(
                        "MockExhausted",
                        format!(
                            "the mock of task `{name}` was given {total} values by `returns_each`, and this is one \
                             more call: give it another value, or use `.returns(..)`"
                        ),
                    ))),
                }
            }
            Answer::Body(body) => Next::Body(body.clone()),
        }
    }
}

enum Next {
    Result(AttemptResult),
    Body(Body),
}

/// The mocks of an environment, by the task's name. Clones are one.
#[derive(Clone, Default)]
pub(crate) struct Mocks {
    plans: Arc<Mutex<HashMap<String, Plan>>>,
}

impl Mocks {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Plan>> {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.lock().contains_key(name)
    }

    /// Makes the attempt in the place of the task's own body.
    pub(crate) fn run(&self, attempt: &TaskAttempt) -> Option<AttemptFuture> {
        let (name, context) = (attempt.name(), attempt.context());
        let (next, takes) = {
            let mut plans = self.lock();
            let plan = plans.get_mut(name)?;
            (plan.next(name, context.task_id()), plan.takes)
        };
        let (context, input) = (context.clone(), attempt.input().cloned());
        Some(Box::pin(async move {
            if !takes.is_zero() {
                tokio::time::sleep(takes).await;
            }
            match next {
                Next::Result(result) => result,
                Next::Body(body) => body(context, input).await,
            }
        }))
    }

    pub(crate) fn begin<I, O, E>(&self, task: &Task<I, O, E>) -> Mock<I, O, E> {
        self.lock().insert(task.name().to_owned(), Plan::default());
        Mock { mocks: self.clone(), task: task.clone() }
    }

    pub(crate) fn remove(&self, name: &str) {
        self.lock().remove(name);
    }
}

impl fmt::Debug for Mocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.lock().keys()).finish()
    }
}

/// Says what stands in for a task's body: made by [`TestEnv::mock`](crate::TestEnv::mock).
///
/// The task's retries, its `retry_if` and its time limits are those of the task that the workflow calls: only
/// its body is replaced. What is said takes effect at once; each answer replaces the one before.
pub struct Mock<I, O, E> {
    mocks: Mocks,
    task: Task<I, O, E>,
}

impl<I, O, E> Mock<I, O, E> {
    fn plan(self, change: impl FnOnce(&mut Plan)) -> Self {
        change(self.mocks.lock().entry(self.task.name().to_owned()).or_default());
        self
    }

    /// Takes so long, in virtual time, before it answers. Also before it fails.
    pub fn takes(self, time: Duration) -> Self {
        self.plan(|plan| plan.takes = time)
    }

    /// Fails every attempt with this error, behind what [`fails_times`](Self::fails_times) said.
    pub fn fails(self, error: E) -> Self
    where
        E: HandlerError,
    {
        let failure = self.task.failure_of(error);
        self.plan(|plan| plan.answer = Answer::Always(Err(failure)))
    }

    /// Fails the next `times` attempts with this error, of whatever call; then answers as it is told
    /// otherwise. Several of these follow each other.
    pub fn fails_times(self, times: usize, error: E) -> Self
    where
        E: HandlerError,
    {
        let failure = self.task.failure_of(error);
        self.plan(|plan| plan.failures.extend((times > 0).then_some((times, failure))))
    }
}

impl<I, O: Serialize, E> Mock<I, O, E> {
    /// Returns this value to every call.
    ///
    /// # Panics
    /// When the value cannot be written as JSON.
    #[track_caller]
    pub fn returns(self, value: O) -> Self {
        let value = encode(&value);
        self.plan(|plan| plan.answer = Answer::Always(Ok(value)))
    }

    /// Returns these values, one for each call in the order of the calls. A call more than there are values
    /// fails the task, and its error says so.
    ///
    /// # Panics
    /// When a value cannot be written as JSON.
    #[track_caller]
    pub fn returns_each(self, values: impl IntoIterator<Item = O>) -> Self {
        let left: VecDeque<_> = values.into_iter().map(|value| encode(&value)).collect();
        let total = left.len();
        self.plan(|plan| plan.answer = Answer::Each { left, given: HashMap::new(), total })
    }
}

impl<I, O, E> Mock<I, O, E>
where
    I: DeserializeOwned + Send + 'static,
    O: Serialize + Send + 'static,
    E: HandlerError,
{
    /// Answers with what `answer` makes of the input.
    pub fn with(self, answer: impl Fn(I) -> Result<O, E> + Send + Sync + 'static) -> Self {
        self.with_body(move |_, input| std::future::ready(answer(input)))
    }

    /// Another body, with all that bodies may do.
    pub fn with_body<F, Fut>(self, body: F) -> Self
    where
        F: Fn(TaskContext, I) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<O, E>> + Send + 'static,
    {
        let task = self.task.clone();
        let erased: Body = Arc::new(move |context, input| {
            let input = match Payload::decode::<I>(input.as_ref()) {
                Ok(input) => input,
                Err(error) => return Box::pin(std::future::ready(Err(Failure::from(error).never_retry()))),
            };
            let (task, answer) = (task.clone(), body(context, input));
            Box::pin(async move {
                match answer.await {
                    Ok(output) => Payload::encode(&output).map_err(|error| Failure::from(error).never_retry()),
                    Err(error) => Err(task.failure_of(error)),
                }
            })
        });
        self.plan(|plan| plan.answer = Answer::Body(erased))
    }
}

impl<I, O, E> fmt::Debug for Mock<I, O, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Mock").field(&self.task.name()).finish()
    }
}

#[track_caller]
pub(crate) fn encode<T: Serialize>(value: &T) -> Option<Payload> {
    match Payload::encode(value) {
        Ok(payload) => payload,
        Err(error) => panic!("this value cannot be recorded: {error}"),
    }
}
