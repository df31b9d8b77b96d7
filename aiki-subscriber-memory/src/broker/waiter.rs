//! Calls of `receive` that wait.
//!
//! A run that becomes available wakes one call that waits for its stream, the oldest. Whoever was
//! woken and leaves runs behind, because it took others or was dropped, wakes the next. So a run
//! never waits while a call waits for it, and nobody is woken for nothing.

use std::sync::Arc;

use tokio::sync::Notify;

use super::{Broker, ListenerId, StreamId};

/// Names a waiting call; the older one has the smaller number.
pub(crate) type WaiterId = u64;

#[derive(Debug)]
pub(super) struct Waiter {
    listener: ListenerId,
    notify: Arc<Notify>,
    woken: bool,
}

#[cfg(test)]
impl Waiter {
    pub(super) fn listener(&self) -> ListenerId {
        self.listener
    }

    pub(super) fn is_woken(&self) -> bool {
        self.woken
    }
}

impl Broker {
    /// Lets a call of this listener wait; `again` is the call's name if it has waited before.
    pub(crate) fn wait(&mut self, listener: ListenerId, again: Option<WaiterId>) -> (WaiterId, Arc<Notify>) {
        let id = again.unwrap_or_else(|| self.number());
        let waiter =
            self.waiters.entry(id).or_insert_with(|| Waiter { listener, notify: Arc::new(Notify::new()), woken: true });
        waiter.woken = false;
        let notify = waiter.notify.clone();
        if let Some(listener) = self.listeners.get(&listener) {
            for stream in &listener.streams {
                self.streams[*stream].waiting.insert(id);
            }
        }
        (id, notify)
    }

    /// Ends the waiting of a call, however the call ends.
    pub(crate) fn stop_waiting(&mut self, id: WaiterId) {
        let Some(waiter) = self.waiters.remove(&id) else { return };
        let Some(listener) = self.listeners.get(&waiter.listener) else { return };
        let mut left_behind = Vec::new();
        for stream in &listener.streams {
            self.streams[*stream].waiting.remove(&id);
            if waiter.woken && !self.streams[*stream].is_empty() {
                left_behind.push(*stream);
            }
        }
        for stream in left_behind {
            self.wake_one(stream);
        }
    }

    /// Wakes the call that has waited longest for this stream.
    pub(super) fn wake_one(&mut self, stream: StreamId) {
        if let Some(id) = self.streams[stream].waiting.first().copied() {
            self.wake(id);
        }
    }

    /// Wakes all that wait for this stream, so that they look at their timers again.
    pub(super) fn wake_all(&mut self, stream: StreamId) {
        while let Some(id) = self.streams[stream].waiting.first().copied() {
            self.wake(id);
        }
    }

    /// Wakes all calls of a listener.
    pub(super) fn wake_listener(&mut self, listener: ListenerId) {
        let calls: Vec<_> =
            self.waiters.iter().filter(|(_, waiter)| waiter.listener == listener).map(|(id, _)| *id).collect();
        for id in calls {
            self.wake(id);
        }
    }

    fn wake(&mut self, id: WaiterId) {
        let Some(waiter) = self.waiters.get_mut(&id) else { return };
        waiter.woken = true;
        waiter.notify.notify_one();
        let Some(listener) = self.listeners.get(&waiter.listener) else { return };
        for stream in &listener.streams {
            self.streams[*stream].waiting.remove(&id);
        }
    }
}
