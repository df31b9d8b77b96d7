//! The two ways to run a lane: in the caller's own time, or on a thread.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use aiki_core::{RunId, ServerError};

use super::queue::{Queue, closed};
use super::{Desk, Job, Lane, Planned};
use crate::operation::Operation;
use crate::storage::{Reads, ReferenceKey, StorageError};

/// Leads to a lane. Cloning is cheap.
#[derive(Clone)]
pub(crate) enum LaneHandle {
    /// Each request is worked on at once by its caller: for stores that never wait.
    Inline(Arc<Mutex<Option<Lane>>>),
    /// Requests queue for a thread: for stores that wait for a disk.
    Thread(Arc<LaneThread>),
}

pub(crate) struct LaneThread {
    queue: Arc<Queue>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl LaneThread {
    fn start(lane: Lane) -> std::io::Result<Self> {
        let queue = Arc::new(Queue::new());
        // The thread holds the queue only: it does not keep its own handle alive.
        let own = Arc::clone(&queue);
        let thread = std::thread::Builder::new().name("aiki-lane".into()).spawn(move || own.serve(lane))?;
        Ok(Self { queue, thread: Mutex::new(Some(thread)) })
    }

    fn close(&self) {
        self.queue.close();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the thread of the commit lane had panicked");
        }
    }
}

impl Drop for LaneThread {
    fn drop(&mut self) {
        self.close();
    }
}

impl<O: Operation> Job for Planned<O> {
    fn touches(&self, runs: &mut Vec<RunId>) {
        self.operation.touches(runs);
    }

    fn references(&self, keys: &mut Vec<ReferenceKey>) {
        self.operation.references(keys);
    }

    fn plan(&mut self, desk: &mut Desk<'_>) {
        let answer = self.operation.plan(desk);
        desk.follow_up();
        self.answer = Some(answer);
    }

    fn refuse(&mut self, error: ServerError) {
        self.answer = Some(Err(error));
    }

    fn reply(self: Box<Self>) {}
}

impl LaneHandle {
    /// Starts the thread. It ends when the last handle is gone, or with [`close`](Self::close).
    pub(crate) fn on_thread(lane: Lane) -> std::io::Result<Self> {
        Ok(LaneHandle::Thread(Arc::new(LaneThread::start(lane)?)))
    }

    /// Plans and commits an operation. Dropping the future leaves open whether it took effect.
    pub(crate) async fn call<O: Operation>(&self, operation: O) -> Result<O::Answer, ServerError> {
        match self {
            LaneHandle::Thread(lane) => lane.queue.call(operation).await,
            LaneHandle::Inline(lane) => {
                let mut planned = Planned::new(operation);
                let mut lane = lane.lock().unwrap_or_else(PoisonError::into_inner);
                lane.as_mut().ok_or_else(closed)?.work(&mut [&mut planned]);
                drop(lane);
                planned.into_answer()
            }
        }
    }

    /// Plans and commits operations one after the other, each with an outcome of its own, in their order.
    /// Dropping the future leaves open which took effect.
    pub(crate) async fn call_all<O: Operation>(&self, operations: Vec<O>) -> Vec<Result<O::Answer, ServerError>> {
        match self {
            LaneHandle::Thread(lane) => lane.queue.call_all(operations).await,
            LaneHandle::Inline(lane) => {
                let mut planned: Vec<_> = operations.into_iter().map(Planned::new).collect();
                let mut lane = lane.lock().unwrap_or_else(PoisonError::into_inner);
                match lane.as_mut() {
                    Some(lane) => {
                        let mut jobs: Vec<_> = planned.iter_mut().map(|planned| planned as &mut dyn Job).collect();
                        lane.work(&mut jobs);
                    }
                    None => planned.iter_mut().for_each(|planned| planned.refuse(closed())),
                }
                drop(lane);
                planned.into_iter().map(Planned::into_answer).collect()
            }
        }
    }

    /// How many requests wait for the next batch.
    pub(crate) fn waiting(&self) -> usize {
        match self {
            LaneHandle::Inline(_) => 0,
            LaneHandle::Thread(lane) => lane.queue.waiting(),
        }
    }

    /// Reads from an inline lane's store.
    pub(crate) fn read_inline<T>(
        lane: &Mutex<Option<Lane>>,
        read: impl FnOnce(&mut dyn Reads) -> Result<T, StorageError>,
    ) -> Result<T, ServerError> {
        let mut lane = lane.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(read(lane.as_mut().ok_or_else(closed)?.storage().reads())?)
    }

    /// Works off what is queued, ends the thread and lets go of the store. Blocks for as long as the
    /// commits of the queue last.
    pub(crate) fn close(&self) {
        match self {
            LaneHandle::Inline(lane) => drop(lane.lock().unwrap_or_else(PoisonError::into_inner).take()),
            LaneHandle::Thread(lane) => lane.close(),
        }
    }
}
