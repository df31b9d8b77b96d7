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
    /// The lane's thread panicked: nothing is worked on any more.
    died: bool,
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

    fn references(&self, keys: &mut Vec<crate::storage::ReferenceKey>) {
        self.planned.references(keys);
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
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| self.ended())?;
        let (reply, answer) = oneshot::channel();
        let size = operation.size();
        let job = Box::new(Request { planned: Planned::new(operation), reply });
        self.push(Queued { job, size, _permit: permit })?;
        answer.await.unwrap_or_else(|_| Err(self.ended()))
    }

    /// The answer after the end, however that came.
    fn ended(&self) -> ServerError {
        if self.state().died { died() } else { closed() }
    }

    /// How many requests wait for the next batch.
    pub(super) fn waiting(&self) -> usize {
        self.state().jobs.len()
    }

    fn push(&self, queued: Queued) -> Result<(), ServerError> {
        let mut state = self.state();
        if state.closed {
            return Err(if state.died { died() } else { closed() });
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
        while self.take(&mut batch, || lane.maintain(true)) {
            let mut jobs: Vec<&mut dyn Job> = batch.iter_mut().map(|queued| &mut *queued.job as &mut dyn Job).collect();
            lane.work(&mut jobs);
            drop(jobs);
            batch.drain(..).for_each(|queued| queued.job.reply());
            lane.maintain(false);
        }
    }
}

/// However the thread ends, nobody waits for it any more.
struct CloseAtEnd<'a>(&'a Queue);

impl Drop for CloseAtEnd<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.state().died = true;
            tracing::error!(
                "the thread of the commit lane panicked: the server does nothing more until it is restarted"
            );
        }
        self.0.close();
        self.0.state().jobs.clear();
    }
}

/// The answer once the thread is gone without having been asked to.
fn died() -> ServerError {
    ServerError::Internal("the thread of the commit lane panicked: close this server and start it again".into())
}

/// The answer after the end.
pub(super) fn closed() -> ServerError {
    ServerError::Unavailable("the server was closed".into())
}

#[cfg(test)]
mod tests {
    use super::super::double::{Double, create, lane};
    use super::super::{Desk, LaneHandle};
    use super::*;
    use crate::operation::ClaimReadyRuns;
    use aiki_core::RunId;
    use aiki_core::server_client::ClaimReady;
    use std::time::Duration;

    #[tokio::test]
    async fn a_panic_answers_its_batch_and_the_lane_goes_on() {
        let mut commits = 0;
        let store = Double::new(move |_| {
            commits += 1;
            assert!(commits != 2, "the second commit broke");
            Ok(())
        });
        let lane = LaneHandle::on_thread(lane(store)).unwrap();
        let first = lane.call(create("a")).await.unwrap();
        // It has claimed the run in memory when the commit breaks.
        let claim = || {
            let key = aiki_core::name::WorkflowKey::user("w", "1");
            let lease = Duration::from_secs(9);
            let request = ClaimReady { worker: "v".into(), workflows: vec![key], pools: vec![], limit: 9, lease };
            lane.call(ClaimReadyRuns { namespace: "n".into(), request, in_process: true, announcer: None })
        };
        let broken = claim().await.unwrap_err();
        assert!(matches!(&broken, ServerError::Internal(text) if text.contains("the second commit broke")), "{broken}");
        // Nothing is left of the broken batch.
        let claimed = claim().await.unwrap();
        assert_eq!(claimed.iter().map(|run| (run.head.id, run.head.epoch)).collect::<Vec<_>>(), [(first.id, 1)]);
        lane.close();
        assert_eq!(lane.call(create("b")).await, Err(closed()));
    }

    /// Takes the lane's thread along when it is answered.
    struct Fatal;

    impl Job for Fatal {
        fn touches(&self, _: &mut Vec<RunId>) {}
        fn references(&self, _: &mut Vec<crate::storage::ReferenceKey>) {}
        fn plan(&mut self, _: &mut Desk<'_>) {}
        fn refuse(&mut self, _: ServerError) {}
        fn reply(self: Box<Self>) {
            panic!("the thread ends");
        }
    }

    #[tokio::test]
    async fn a_thread_that_is_gone_is_not_called_closed() {
        let queue = Arc::new(Queue::new());
        let own = Arc::clone(&queue);
        let thread = std::thread::spawn(move || own.serve(lane(Double::new(|_| Ok(())))));
        let permit = Arc::clone(&queue.permits).acquire_owned().await.unwrap();
        queue.push(Queued { job: Box::new(Fatal), size: 0, _permit: permit }).unwrap();
        assert!(thread.join().is_err());
        let error = queue.call(create("a")).await.unwrap_err();
        assert!(
            matches!(&error, ServerError::Internal(text) if text.contains("panicked") && text.contains("start it again")),
            "{error}"
        );
        // Closing it afterwards does not change the reason.
        queue.close();
        assert_eq!(queue.call(create("a")).await, Err(died()));
    }
}
