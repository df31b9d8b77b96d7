//! Child runs, as their parent's handler sees them.

use std::future::Future;
use std::marker::PhantomData;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::run::Run;
use super::shared::Shared;
use super::wait::RawWait;
use crate::definition::Durable;
use crate::failure::{ChildError, ErrorObject, FailedChild, HandlerError};
use crate::hash::input_hash;
use crate::id::RunId;
use crate::name::{Name, WorkflowKey};
use crate::payload::{Payload, PayloadError};
use crate::rank::Priority;
use crate::replay::{ChildCall, StepId, StepOutcome, WaitTarget};
use crate::report::ChildStart;
use crate::retry::RetryStrategy;
use crate::run::{ConflictPolicy, Reference, RunOptions};

/// What a handler says about a child before it starts it: made by
/// [`WorkflowVersion::child`](crate::WorkflowVersion::child).
#[must_use = "the child starts with `start`"]
#[derive(Debug)]
pub struct ChildOptions<I, O, E> {
    workflow: WorkflowKey,
    reference: Option<Reference>,
    options: RunOptions,
    priority: Priority,
    time_limit: Option<Duration>,
    types: PhantomData<fn(I) -> (O, E)>,
}

impl<I, O, E> ChildOptions<I, O, E> {
    pub(crate) fn new(workflow: WorkflowKey, retry: RetryStrategy) -> Self {
        let retry = (retry != RetryStrategy::Never).then_some(retry);
        let options = RunOptions { retry, pool: None };
        Self { workflow, reference: None, options, priority: Priority::default(), time_limit: None, types: PhantomData }
    }

    /// Gives the child an id of the handler's own. A run of the same workflow version that has it
    /// already becomes the child; when that run has another input, the wait for the child fails.
    pub fn reference_id(mut self, id: impl Into<String>) -> Self {
        self.reference = Some(Reference { id: id.into(), conflict_policy: ConflictPolicy::Error });
        self
    }

    /// Reserves the child for the workers of a pool. Otherwise it belongs to its parent's.
    pub fn pool(mut self, pool: impl Into<Name>) -> Self {
        self.options.pool = Some(pool.into());
        self
    }

    /// Says how urgent the child is.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// The child fails when it has not ended after this time. It never outlives its parent's deadline.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = Some(limit);
        self
    }

    /// Starts the child. It is recorded and never started again by replay.
    #[track_caller]
    pub fn start<'run>(self, run: &'run Run, input: I) -> Child<'run, O, E>
    where
        I: Durable,
    {
        let input = Payload::encode(&input);
        Child::open(run, self, input, Location::caller())
    }
}

/// A child run, in the hands of its parent's handler. Dropping it leaves the child alone.
pub struct Child<'run, O, E> {
    shared: &'run Arc<Shared>,
    step: Result<StepId, ErrorObject>,
    workflow: WorkflowKey,
    types: PhantomData<fn() -> (O, E)>,
}

impl<'run, O, E> Child<'run, O, E> {
    fn open<I>(
        run: &'run Run,
        about: ChildOptions<I, O, E>,
        input: Result<Option<Payload>, PayloadError>,
        location: &'static Location<'static>,
    ) -> Self {
        let shared = &run.shared;
        let workflow = about.workflow.clone();
        let refuse = |error: &dyn std::error::Error| ErrorObject::from_error("WorkflowInputError", error);
        let open = || {
            let input = input.map_err(|error| refuse(&error))?;
            let input_hash = input_hash(input.as_ref().map(Payload::as_str)).map_err(|error| refuse(&error))?;
            let mut state = shared.lock();
            Payload::check_size(input.as_ref(), state.machine.payload_limit()).map_err(|error| refuse(&error))?;
            let start = ChildStart {
                workflow: about.workflow,
                input,
                input_hash,
                reference: about.reference,
                options: about.options,
                priority: about.priority,
                time_limit: about.time_limit,
            };
            Ok(state.machine.open_child(ChildCall { start, location }))
        };
        Self { shared, step: open(), workflow, types: PhantomData }
    }

    /// The child's id; `None` until the server has started it, which it has when anything that was
    /// awaited after the start has come.
    pub fn id(&self) -> Option<RunId> {
        self.step.as_ref().ok().and_then(|step| self.shared.lock().machine.child_id(*step))
    }

    /// Asks for the child's end: it is cancelled unless it has ended already. Recorded, so that replay
    /// does not ask again.
    pub fn cancel(&self) {
        if let Ok(step) = &self.step {
            self.shared.lock().machine.cancel_child(*step);
        }
    }

    fn wait_for(&self, timeout: Option<Duration>, location: &'static Location<'static>) -> ChildWait<'run, O, E> {
        let wait = self
            .step
            .clone()
            .map(|step| (RawWait::open(self.shared, WaitTarget::Child(step), timeout, location), step));
        ChildWait { shared: self.shared, wait, workflow: self.workflow.clone(), types: PhantomData }
    }

    /// Waits until the child has ended. No worker is held meanwhile.
    #[track_caller]
    pub fn wait(&self) -> ChildWait<'run, O, E> {
        self.wait_for(None, Location::caller())
    }

    /// Waits until the child has ended, at most for `timeout`, in whole milliseconds rounded up.
    #[track_caller]
    pub fn wait_within(&self, timeout: Duration) -> ChildWait<'run, O, E> {
        self.wait_for(Some(timeout), Location::caller())
    }
}

impl<O, E> std::fmt::Debug for Child<'_, O, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Child").field("workflow", &self.workflow).field("id", &self.id()).finish()
    }
}

/// The future of [`Child::wait`].
#[must_use = "the wait has begun, but the workflow waits only when it is awaited"]
pub struct ChildWait<'run, O, E> {
    shared: &'run Arc<Shared>,
    wait: Result<(RawWait<'run>, StepId), ErrorObject>,
    workflow: WorkflowKey,
    types: PhantomData<fn() -> (O, E)>,
}

impl<O, E> Unpin for ChildWait<'_, O, E> {}

impl<O: DeserializeOwned, E: HandlerError> Future for ChildWait<'_, O, E> {
    type Output = Result<O, ChildError<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let failed = |run| FailedChild { run, workflow: this.workflow.clone() };
        let (wait, step) = match &mut this.wait {
            Ok((wait, step)) => (wait, *step),
            // The call never became a step: it fails the same way in every pass.
            Err(error) => {
                let (error, child) = (Box::new(error.clone()), failed(None));
                return Poll::Ready(Err(ChildError::Engine { error, child }));
            }
        };
        let Poll::Ready(outcome) = wait.poll(cx) else { return Poll::Pending };
        let child = failed(this.shared.lock().machine.child_id(step));
        Poll::Ready(match outcome {
            StepOutcome::ChildEnded(state) => ChildError::read(*state, child),
            _ => Err(ChildError::WaitTimedOut { child }),
        })
    }
}
