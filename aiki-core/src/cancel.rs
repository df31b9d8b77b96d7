//! A cancellation token without a runtime.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

/// Tells a task's body that its work is no longer wanted. Clones share one state; once cancelled it
/// stays cancelled.
#[derive(Clone, Debug, Default)]
pub struct CancellationToken {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    cancelled: bool,
    wakers: Vec<Waker>,
    children: Vec<Weak<Mutex<State>>>,
}

impl CancellationToken {
    /// A token that is not cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancels: everybody who waits on [`cancelled`](Self::cancelled) is woken.
    pub fn cancel(&self) {
        let (wakers, children) = {
            let mut state = self.lock();
            state.cancelled = true;
            (std::mem::take(&mut state.wakers), std::mem::take(&mut state.children))
        };
        wakers.into_iter().for_each(Waker::wake);
        for state in children.iter().filter_map(Weak::upgrade) {
            CancellationToken { state }.cancel();
        }
    }

    /// A token that is cancelled with this one, and can be cancelled alone.
    pub fn child(&self) -> Self {
        let child = Self::new();
        let mut state = self.lock();
        if state.cancelled {
            drop(state);
            child.cancel();
        } else {
            state.children.retain(|child| child.strong_count() > 0);
            state.children.push(Arc::downgrade(&child.state));
        }
        child
    }

    /// Whether the work is no longer wanted.
    pub fn is_cancelled(&self) -> bool {
        self.lock().cancelled
    }

    /// Resolves when the work is no longer wanted. Cancel-safe.
    pub fn cancelled(&self) -> Cancelled {
        Cancelled { token: self.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The future of [`CancellationToken::cancelled`].
#[derive(Debug)]
pub struct Cancelled {
    token: CancellationToken,
}

impl Future for Cancelled {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.token.lock();
        if state.cancelled {
            return Poll::Ready(());
        }
        if !state.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            state.wakers.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_ends_with_its_parent_and_not_the_other_way_round() {
        let parent = CancellationToken::new();
        let (first, second) = (parent.child(), parent.child());
        first.cancel();
        assert!(!parent.is_cancelled() && !second.is_cancelled());
        parent.cancel();
        assert!(second.is_cancelled() && parent.child().is_cancelled());
    }

    #[test]
    fn cancelling_wakes_every_clone() {
        let token = CancellationToken::new();
        let clone = token.clone();
        let mut future = Box::pin(clone.cancelled());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(future.as_mut().poll(&mut cx).is_pending());
        token.cancel();
        assert!(future.as_mut().poll(&mut cx).is_ready());
        assert!(clone.is_cancelled());
    }
}
