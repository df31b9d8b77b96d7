//! The futures of waiting for an event or a child.

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
use crate::definition::Event;
use crate::failure::ErrorObject;
use crate::payload::Payload;
use crate::replay::{StepId, StepOutcome, StepPoll, WaitCall, WaitTarget};

/// The wait took longer than it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nothing came within {0:?}")]
pub struct Elapsed(pub Duration);

/// A wait with its types erased. Dropping it ends the wait.
pub(super) struct RawWait<'run> {
    pub(super) shared: &'run Arc<Shared>,
    step: StepId,
    done: bool,
}

impl<'run> RawWait<'run> {
    pub(super) fn open(
        shared: &'run Arc<Shared>,
        target: WaitTarget,
        timeout: Option<Duration>,
        location: &'static Location<'static>,
    ) -> Self {
        let now = shared.clock.now();
        let step = shared.lock().machine.open_wait(WaitCall { target, timeout, location }, now);
        Self { shared, step, done: false }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<StepOutcome> {
        let mut state = self.shared.lock();
        match state.machine.poll_step(self.step) {
            StepPoll::Ready(outcome) => {
                drop(state);
                self.done = true;
                Poll::Ready(outcome)
            }
            _ => {
                state.park(self.step, cx.waker());
                Poll::Pending
            }
        }
    }
}

impl Drop for RawWait<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.shared.lock().machine.abandon(self.step);
        }
    }
}

/// The future of [`Run::event`].
#[must_use = "the wait has begun, but the workflow waits only when it is awaited"]
pub struct EventWait<'run, T> {
    within: EventWithin<'run, T>,
}

/// The future of [`Run::event_within`].
#[must_use = "the wait has begun, but the workflow waits only when it is awaited"]
pub struct EventWithin<'run, T> {
    wait: RawWait<'run>,
    name: &'static str,
    timeout: Duration,
    data: PhantomData<fn() -> T>,
}

impl<'run, T> EventWait<'run, T> {
    pub(super) fn open(run: &'run Run, event: &Event<T>, location: &'static Location<'static>) -> Self {
        Self { within: EventWithin::open(run, event, None, location) }
    }
}

impl<'run, T> EventWithin<'run, T> {
    pub(super) fn open(
        run: &'run Run,
        event: &Event<T>,
        timeout: Option<Duration>,
        location: &'static Location<'static>,
    ) -> Self {
        let (shared, name) = (&run.shared, event.name());
        if !shared.events.iter().any(|declared| declared == name) {
            let text = format!(
                "the workflow waits for the event `{name}` at {location}, but {} does not declare it: add \
                 `.event(&...)` to the version, or `events = [...]` to its `#[aiki::workflow]`, so that callers can \
                 send it",
                shared.workflow
            );
            shared.lock().machine.fail(ErrorObject::new("UndeclaredEvent", text));
        }
        let wait = RawWait::open(shared, WaitTarget::Event(name.to_owned()), timeout, location);
        Self { wait, name, timeout: timeout.unwrap_or(Duration::MAX), data: PhantomData }
    }
}

impl<T: DeserializeOwned> Future for EventWithin<'_, T> {
    type Output = Result<T, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        match this.wait.poll(cx) {
            Poll::Ready(StepOutcome::Event { data, .. }) => match Payload::decode(data.as_ref()) {
                Ok(data) => Poll::Ready(Ok(data)),
                Err(error) => {
                    // What was sent does not become another type by waiting.
                    let mut object = ErrorObject::from_error("EventDataError", &error);
                    object.message = format!("the event `{}` does not carry what is waited for: {error}", this.name);
                    this.wait.shared.lock().machine.fail(object);
                    Poll::Pending
                }
            },
            Poll::Ready(_) => Poll::Ready(Err(Elapsed(this.timeout))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T: DeserializeOwned> Future for EventWait<'_, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        match Pin::new(&mut self.within).poll(cx) {
            Poll::Ready(Ok(data)) => Poll::Ready(data),
            // A wait without a limit does not end by one.
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
        }
    }
}
