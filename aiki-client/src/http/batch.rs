//! Group commit on the client's side: what queued during the last request travels in the next one.
//!
//! There is no wait window. A request goes out at once while fewer than [`LANES`] are under way; otherwise it
//! waits for one of them, together with whatever else comes by then.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aiki_core::ServerError;
use tokio::sync::oneshot;

use super::io::{Io, closed};

/// Requests of one kind that are under way at the same time.
const LANES: usize = 4;
/// At most so many items travel in one request.
const BATCH_ITEMS: usize = 256;
/// A batch ends with the item that brings it over this many bytes of payload.
const BATCH_BYTES: usize = 1_000_000;
/// At most so many items wait.
const QUEUE_LIMIT: usize = 100_000;

type Answers<O> = Vec<Result<O, ServerError>>;
type Sending<O> = Pin<Box<dyn Future<Output = Answers<O>> + Send>>;

struct Queued<I, O> {
    item: I,
    size: usize,
    answer: oneshot::Sender<Result<O, ServerError>>,
}

struct State<I, O> {
    queue: VecDeque<Queued<I, O>>,
    lanes: usize,
}

/// Collects items of one kind and sends them in batches.
pub(super) struct Batcher<I, O> {
    state: Mutex<State<I, O>>,
    /// Answers once for each item, in their order.
    send: Box<dyn Fn(Vec<I>) -> Sending<O> + Send + Sync>,
}

/// One request at a time. Freed on drop, also when sending panicked or the client was closed.
struct Lane<I: Send + 'static, O: Send + 'static> {
    batcher: Arc<Batcher<I, O>>,
    freed: bool,
}

impl<I: Send + 'static, O: Send + 'static> Batcher<I, O> {
    pub(super) fn new<F>(send: impl Fn(Vec<I>) -> F + Send + Sync + 'static) -> Arc<Self>
    where
        F: Future<Output = Answers<O>> + Send + 'static,
    {
        let state = Mutex::new(State { queue: VecDeque::new(), lanes: 0 });
        Arc::new(Self { state, send: Box::new(move |items| Box::pin(send(items))) })
    }

    fn state(&self) -> MutexGuard<'_, State<I, O>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends an item of `size` bytes of payload with the next batch. When the future is dropped, it is sent all
    /// the same.
    pub(super) async fn submit(self: &Arc<Self>, io: &Io, item: I, size: usize) -> Result<O, ServerError> {
        let (answer, answered) = oneshot::channel();
        let lane = {
            let mut state = self.state();
            if state.queue.len() >= QUEUE_LIMIT {
                return Err(ServerError::Unavailable(format!(
                    "{QUEUE_LIMIT} requests wait for the server already: start fewer at the same time"
                )));
            }
            state.queue.push_back(Queued { item, size, answer });
            let free = state.lanes < LANES;
            state.lanes += usize::from(free);
            free.then(|| Lane { batcher: Arc::clone(self), freed: false })
        };
        if let Some(lane) = lane {
            io.spawn(async move { lane.run().await });
        }
        answered.await.unwrap_or_else(|_| Err(closed()))
    }

    /// The next batch. When there is none the lane is freed in the same moment: nothing can come in between.
    fn take(&self) -> Vec<Queued<I, O>> {
        let mut state = self.state();
        state.lanes -= usize::from(state.queue.is_empty());
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < BATCH_ITEMS && bytes <= BATCH_BYTES {
            let fits = state.queue.front().is_some_and(|next| batch.is_empty() || bytes + next.size <= BATCH_BYTES);
            let Some(next) = fits.then(|| state.queue.pop_front()).flatten() else { break };
            bytes += next.size;
            batch.push(next);
        }
        batch
    }
}

impl<I: Send + 'static, O: Send + 'static> Lane<I, O> {
    async fn run(mut self) {
        loop {
            let batch = self.batcher.take();
            if batch.is_empty() {
                self.freed = true;
                return;
            }
            let (mut items, mut waiting) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
            for Queued { item, answer, .. } in batch {
                items.push(item);
                waiting.push(answer);
            }
            let mut answers = (self.batcher.send)(items).await.into_iter();
            for answer in waiting {
                let missing = || Err(ServerError::Internal("the server's answer lacks an item".into()));
                // Whoever asked may have gone.
                let _ = answer.send(answers.next().unwrap_or_else(missing));
            }
        }
    }
}

impl<I: Send + 'static, O: Send + 'static> Drop for Lane<I, O> {
    fn drop(&mut self) {
        if self.freed {
            return;
        }
        let mut state = self.batcher.state();
        state.lanes -= 1;
        // Nobody would ever send these.
        if state.lanes == 0 {
            state.queue.clear();
        }
    }
}
