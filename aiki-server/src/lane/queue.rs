//! The queue in front of a lane that has a thread of its own.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use aiki_core::ServerError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::{Job, Lane, Planned};
use crate::operation::Operation;

/// At most so many requests wait or are worked on; more wait for their turn to queue.
const QUEUE_LIMIT: usize = 4_096;
/// At most so many requests go into one transaction.
const BATCH_LIMIT: usize = 256;
/// A batch is not extended beyond this size, in bytes of payload.
const BATCH_BYTES: usize = 4_000_000;

/// A request that waits in the queue.
struct Queued {
    job: Box<dyn Job>,
    size: usize,
    _permit: OwnedSemaphorePermit,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Queued>,
    closed: bool,
    /// The lane sleeps and has to be woken.
    idle: bool,
}

/// Requests on their way to the lane's thread.
pub(super) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    permits: Arc<Semaphore>,
}

struct Request<O: Operation> {
    planned: Planned<O>,
    reply: oneshot::Sender<Result<O::Answer, ServerError>>,
}

impl<O: Operation> Job for Request<O> {
    fn touches(&self, runs: &mut Vec<aiki_core::RunId>) {
        self.planned.touches(runs);
    }

    fn plan(&mut self, desk: &mut super::Desk<'_>) {
        self.planned.plan(desk);
    }

    fn refuse(&mut self, error: ServerError) {
        self.planned.refuse(error);
    }

    fn reply(self: Box<Self>) {
        // Whoever asked may have gone.
        let _ = self.reply.send(self.planned.into_answer());
    }
}

impl Queue {
    pub(super) fn new() -> Self {
        let permits = Arc::new(Semaphore::new(QUEUE_LIMIT));
        Self { state: Mutex::default(), filled: Condvar::new(), permits }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues an operation and waits for its answer.
    pub(super) async fn call<O: Operation>(&self, operation: O) -> Result<O::Answer, ServerError> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| closed())?;
        let (reply, answer) = oneshot::channel();
        let size = operation.size();
        let job = Box::new(Request { planned: Planned::new(operation), reply });
        self.push(Queued { job, size, _permit: permit })?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    fn push(&self, queued: Queued) -> Result<(), ServerError> {
        let mut state = self.state();
        if state.closed {
            return Err(closed());
        }
        state.jobs.push_back(queued);
        if std::mem::take(&mut state.idle) {
            drop(state);
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Lets nothing in any more; what is queued is still worked on.
    pub(super) fn close(&self) {
        self.permits.close();
        self.state().closed = true;
        self.filled.notify_one();
    }

    /// Waits for requests and takes a batch of them; `false` when the queue is closed and empty.
    fn take(&self, batch: &mut Vec<Queued>, when_idle: impl FnOnce()) -> bool {
        let mut state = self.state();
        if state.jobs.is_empty() && !state.closed {
            drop(state);
            when_idle();
            state = self.state();
        }
        while state.jobs.is_empty() && !state.closed {
            state.idle = true;
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let mut bytes = 0;
        while batch.len() < BATCH_LIMIT && (batch.is_empty() || bytes < BATCH_BYTES) {
            let Some(queued) = state.jobs.pop_front() else { break };
            bytes += queued.size;
            batch.push(queued);
        }
        !batch.is_empty()
    }

    /// The lane's thread.
    pub(super) fn serve(&self, mut lane: Lane) {
        let _closing = CloseAtEnd(self);
        let mut batch = Vec::with_capacity(BATCH_LIMIT);
        while self.take(&mut batch, || lane.storage().maintain(true)) {
            let mut jobs: Vec<&mut dyn Job> = batch.iter_mut().map(|queued| &mut *queued.job as &mut dyn Job).collect();
            lane.work(&mut jobs);
            drop(jobs);
            batch.drain(..).for_each(|queued| queued.job.reply());
            lane.storage().maintain(false);
        }
    }
}

/// However the thread ends, nobody waits for it any more.
struct CloseAtEnd<'a>(&'a Queue);

impl Drop for CloseAtEnd<'_> {
    fn drop(&mut self) {
        self.0.close();
        self.0.state().jobs.clear();
    }
}

/// The answer after the end.
pub(super) fn closed() -> ServerError {
    ServerError::Unavailable("the server was closed".into())
}
