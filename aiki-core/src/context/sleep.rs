//! The future of a durable sleep.

use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::run::Run;
use super::shared::Shared;
use crate::replay::{StepId, StepOutcome, StepPoll};

/// How a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slept {
    /// The whole time went by.
    InFull,
    /// Somebody woke the run up before.
    WokenEarly,
}

/// The future of [`Run::sleep`]. It never fails.
#[must_use = "the sleep has begun, but the workflow waits for it only when it is awaited"]
pub struct Sleep<'run> {
    shared: &'run Arc<Shared>,
    step: StepId,
    done: bool,
}

impl<'run> Sleep<'run> {
    pub(super) fn open(run: &'run Run, name: &str, duration: Duration, location: &'static Location<'static>) -> Self {
        let shared = &run.shared;
        let now = shared.clock.now();
        let step = shared.lock().machine.open_sleep(name, duration, now, location);
        Self { shared, step, done: false }
    }
}

impl Future for Sleep<'_> {
    type Output = Slept;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Slept> {
        let mut state = self.shared.lock();
        match state.machine.poll_step(self.step) {
            StepPoll::Ready(StepOutcome::Slept { early }) => {
                drop(state);
                self.done = true;
                Poll::Ready(if early { Slept::WokenEarly } else { Slept::InFull })
            }
            _ => {
                state.park(self.step, cx.waker());
                Poll::Pending
            }
        }
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.shared.lock().machine.abandon(self.step);
        }
    }
}
