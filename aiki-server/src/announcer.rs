//! Announces ready runs through the publisher.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aiki_core::{Publisher, ReadyRun, RunId, Timestamp};
use tokio::sync::Notify;

use crate::readers::Readers;
use crate::storage::QueuedPlace;

/// At most so many runs are announced in one go.
const BATCH_LIMIT: usize = 512;
/// At most so many runs wait to be announced. The rest is announced again by its age.
const QUEUE_LIMIT: usize = 100_000;

/// Ready runs on their way to the publisher.
#[derive(Debug, Default)]
pub(crate) struct Announcer {
    waiting: Mutex<VecDeque<ReadyRun>>,
    filled: Notify,
}

impl Announcer {
    fn waiting(&self) -> MutexGuard<'_, VecDeque<ReadyRun>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of ready runs. Never blocks.
    pub(crate) fn announce(&self, runs: Vec<ReadyRun>) {
        if runs.is_empty() {
            return;
        }
        let mut waiting = self.waiting();
        let room = QUEUE_LIMIT.saturating_sub(waiting.len());
        let dropped = runs.len().saturating_sub(room);
        waiting.extend(runs.into_iter().take(room));
        drop(waiting);
        self.filled.notify_one();
        if dropped > 0 {
            tracing::warn!(dropped, "too many runs wait to be announced; they are announced later by their age");
        }
    }

    async fn next_batch(&self) -> Vec<ReadyRun> {
        loop {
            let batch: Vec<_> = {
                let mut waiting = self.waiting();
                let count = waiting.len().min(BATCH_LIMIT);
                waiting.drain(..count).collect()
            };
            if !batch.is_empty() {
                return batch;
            }
            self.filled.notified().await;
        }
    }

    /// Takes note of what was queued when the server last stopped: a queue in memory knows nothing of
    /// it. Answers where to go on when there is more than fits.
    pub(crate) async fn preload(&self, readers: &Readers) -> Option<QueuedPlace> {
        let mut after = (Timestamp::EPOCH, RunId::from_bits(0));
        while self.waiting().len() + BATCH_LIMIT <= QUEUE_LIMIT {
            after = self.load(readers, after).await?;
        }
        Some(after)
    }

    /// Takes note of a batch of queued runs; answers the place behind it, `None` at the end.
    async fn load(&self, readers: &Readers, after: QueuedPlace) -> Option<QueuedPlace> {
        match readers.read(move |store| store.queued(after, BATCH_LIMIT)).await {
            Ok(places) => {
                let last = places.last().map(|(place, _)| *place);
                self.announce(places.into_iter().map(|(_, run)| run).collect());
                last
            }
            Err(error) => {
                tracing::warn!(%error, "queued runs could not be looked up; they are announced later by their age");
                None
            }
        }
    }

    /// Runs for as long as the server does. `more` is where the runs of the server's last life go on.
    pub(crate) async fn run(
        self: Arc<Self>,
        publisher: Arc<dyn Publisher>,
        readers: Readers,
        mut more: Option<QueuedPlace>,
    ) {
        loop {
            let batch = self.next_batch().await;
            publish(&*publisher, &batch).await;
            if let Some(after) = more {
                more = self.load(&readers, after).await;
            }
        }
    }
}

async fn publish(publisher: &dyn Publisher, runs: &[ReadyRun]) {
    let report = publisher.publish(runs).await;
    if let Some((run, reason)) = report.failed.first() {
        let failed = report.failed.len();
        tracing::warn!(failed, %run, reason, "runs could not be announced; they are announced again by their age");
    }
}
