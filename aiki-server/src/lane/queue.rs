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

/// Where an answer goes.
trait Reply<A>: Send {
    fn reply(self, answer: Result<A, ServerError>);
}

impl<A: Send> Reply<A> for oneshot::Sender<Result<A, ServerError>> {
    fn reply(self, answer: Result<A, ServerError>) {
        // Whoever asked may have gone.
        let _ = self.send(answer);
    }
}

/// A request, and where its answer goes.
struct Request<O: Operation, R> {
    planned: Planned<O>,
    to: R,
}

impl<O: Operation, R: Reply<O::Answer>> Job for Request<O, R> {
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
        let Request { planned, to } = *self;
        to.reply(planned.into_answer());
    }
}

type Answers<A> = Vec<Option<Result<A, ServerError>>>;

/// The answers so far to requests whose answers go out together. They are sent when the last part is gone, answered or
/// not: whoever waits is woken once.
struct Gathered<A> {
    answers: Mutex<Answers<A>>,
    reply: Option<oneshot::Sender<Answers<A>>>,
}

impl<A> Drop for Gathered<A> {
    fn drop(&mut self) {
        let answers = std::mem::take(self.answers.get_mut().unwrap_or_else(PoisonError::into_inner));
        if let Some(reply) = self.reply.take() {
            // Whoever asked may have gone.
            let _ = reply.send(answers);
        }
    }
}

/// The place of one of them.
struct Part<A> {
    at: usize,
    gathered: Arc<Gathered<A>>,
}

impl<A: Send> Reply<A> for Part<A> {
    fn reply(self, answer: Result<A, ServerError>) {
        self.gathered.answers.lock().unwrap_or_else(PoisonError::into_inner)[self.at] = Some(answer);
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
        let job = Box::new(Request { planned: Planned::new(operation), to: reply });
        self.push([Queued { job, size, _permit: permit }])?;
        answer.await.unwrap_or_else(|_| Err(self.ended()))
    }

    /// Queues operations one behind the other and waits for all their answers, which are in their order. Each has its
    /// own outcome; that they meet in one transaction is likely and not promised.
    pub(super) async fn call_all<O: Operation>(&self, operations: Vec<O>) -> Vec<Result<O::Answer, ServerError>> {
        let mut answers = Vec::with_capacity(operations.len());
        let mut operations = operations.into_iter().peekable();
        while operations.peek().is_some() {
            let part: Vec<O> = operations.by_ref().take(BATCH_LIMIT).collect();
            answers.extend(self.call_together(part).await);
        }
        answers
    }

    async fn call_together<O: Operation>(&self, operations: Vec<O>) -> Vec<Result<O::Answer, ServerError>> {
        let count = operations.len();
        let refuse = |error: ServerError| (0..count).map(|_| Err(error.clone())).collect();
        // At most BATCH_LIMIT, which is far below what the queue has.
        let permits = Arc::clone(&self.permits).acquire_many_owned(u32::try_from(count).unwrap_or(u32::MAX)).await;
        let Ok(mut permits) = permits else { return refuse(self.ended()) };
        let (reply, answered) = oneshot::channel();
        let answers = Mutex::new((0..count).map(|_| None).collect());
        let gathered = Arc::new(Gathered { answers, reply: Some(reply) });
        let queued = operations.into_iter().enumerate().filter_map(|(at, operation)| {
            let (size, _permit) = (operation.size(), permits.split(1)?);
            let to = Part { at, gathered: Arc::clone(&gathered) };
            Some(Queued { job: Box::new(Request { planned: Planned::new(operation), to }), size, _permit })
        });
        let queued: Vec<_> = queued.collect();
        drop(gathered);
        if let Err(error) = self.push(queued) {
            return refuse(error);
        }
        let mut answers = answered.await.unwrap_or_default().into_iter();
        (0..count).map(|_| answers.next().flatten().unwrap_or_else(|| Err(self.ended()))).collect()
    }

    /// The answer after the end, however that came.
    fn ended(&self) -> ServerError {
        if self.state().died { died() } else { closed() }
    }

    /// How many requests wait for the next batch.
    pub(super) fn waiting(&self) -> usize {
        self.state().jobs.len()
    }

    fn push(&self, queued: impl IntoIterator<Item = Queued>) -> Result<(), ServerError> {
        let mut state = self.state();
        if state.closed {
            return Err(if state.died { died() } else { closed() });
        }
        state.jobs.extend(queued);
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
    use crate::storage::StorageError;
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

    #[tokio::test]
    async fn many_at_once_have_an_outcome_each_in_their_order() {
        // More than one batch takes. The store wants them one by one, and refuses the eighth.
        let (count, mut commits) = (BATCH_LIMIT + 3, 0);
        let store = Double::new(move |rows| {
            commits += usize::from(rows == 1);
            if rows > 1 || commits == 8 { Err(StorageError::Full) } else { Ok(()) }
        });
        let lane = LaneHandle::on_thread(lane(store)).unwrap();
        let references: Vec<String> = (0..count).map(|at| at.to_string()).collect();
        let answers = lane.call_all(references.iter().map(|reference| create(reference)).collect()).await;
        assert_eq!(answers.len(), count);
        for (reference, answer) in references.iter().zip(answers) {
            match answer {
                Ok(created) => {
                    let again = lane.call(create(reference)).await.unwrap();
                    assert_eq!((again.id, again.existed), (created.id, true), "{reference}");
                }
                Err(error) => assert_eq!((reference.as_str(), error), ("7", StorageError::Full.into())),
            }
        }
        lane.close();
        assert_eq!(lane.call_all(vec![create("x"), create("y")]).await, [Err(closed()), Err(closed())]);
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
        queue.push([Queued { job: Box::new(Fatal), size: 0, _permit: permit }]).unwrap();
        assert!(thread.join().is_err());
        let error = queue.call(create("a")).await.unwrap_err();
        assert!(
            matches!(&error, ServerError::Internal(text) if text.contains("panicked") && text.contains("start it again")),
            "{error}"
        );
        assert_eq!(queue.call_all(vec![create("b"), create("c")]).await, [Err(died()), Err(died())]);
        // Closing it afterwards does not change the reason.
        queue.close();
        assert_eq!(queue.call(create("a")).await, Err(died()));
    }
}
