//! What a task's body says of its progress, on its way to the machine.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use crate::payload::Payload;

/// The latest word of a body; it may come from any thread.
#[derive(Debug, Default)]
pub(super) struct Progress {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    beaten: bool,
    checkpoint: Option<Payload>,
    waker: Option<Waker>,
}

impl Progress {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The body is alive, and may have got so far.
    pub(super) fn tell(&self, checkpoint: Option<Payload>) {
        let waker = {
            let mut state = self.lock();
            state.beaten = true;
            state.checkpoint = checkpoint.or(state.checkpoint.take());
            state.waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }

    /// What was said since the last look; who looks is woken when more is said.
    pub(super) fn take(&self, waker: &Waker) -> Option<Option<Payload>> {
        let mut state = self.lock();
        state.waker = Some(waker.clone());
        std::mem::take(&mut state.beaten).then(|| state.checkpoint.take())
    }
}
