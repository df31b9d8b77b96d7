//! Announces ready runs through the publisher.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use aiki_core::rank::republish_backoff;
use aiki_core::{PublishReport, Publisher, ReadyRun, RunId, Timestamp};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::measure;
use crate::panic::panic_text;
use crate::readers::Readers;
use crate::storage::QueuedPlace;

/// At most so many runs are announced in one go.
const BATCH_LIMIT: usize = 512;
/// At most so many runs wait to be announced. The rest is announced again by its age.
const QUEUE_LIMIT: usize = 100_000;

/// Pause before a failed announcement is repeated; doubles. When it would reach the time after which a
/// run is announced by its age, it is left to that.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// How long it is remembered that a run could not be announced. Afterwards it is old enough to be given
/// to whoever asks.
const MISSED_MEMORY: Duration = Duration::from_secs(2);

/// How long a failed announcement tells something about the publisher.
const TROUBLE_MEMORY: Duration = Duration::from_secs(10);

/// A line in the log about announcements that failed stands for all of so long.
const TELL_EVERY: Duration = Duration::from_secs(30);

/// What of failed announcements was not told yet.
#[derive(Debug, Default)]
struct Untold {
    told: Option<Instant>,
    failed: usize,
    again: usize,
}

/// A run to be announced.
#[derive(Debug)]
struct Waiting {
    run: ReadyRun,
    /// The pause before it is announced again, should this fail.
    pause: Duration,
}

/// Announcements that failed, by the time of the next try.
#[derive(Debug, Default)]
struct Failed {
    by_time: BTreeMap<(Instant, u64), Waiting>,
    next: u64,
}

/// Runs that could not be announced a moment ago. Never more than [`QUEUE_LIMIT`].
#[derive(Debug, Default)]
struct Missed {
    runs: HashSet<RunId>,
    by_time: VecDeque<(Instant, RunId)>,
}

/// Ready runs on their way to the publisher.
#[derive(Debug, Default)]
pub(crate) struct Announcer {
    waiting: Mutex<VecDeque<ReadyRun>>,
    filled: Notify,
    missed: Mutex<Missed>,
    /// Why the last batch, or a part of it, was not announced.
    trouble: Mutex<Option<(Instant, String)>>,
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

    /// Whether those who listen have heard of the run, or are about to: its last announcement did not fail.
    pub(crate) fn has_announced(&self, run: RunId) -> bool {
        !self.missed().runs.contains(&run)
    }

    /// Why the last announcement failed; `None` when it did not, or when that is long ago: perhaps nothing
    /// had to be announced since.
    pub(crate) fn trouble(&self) -> Option<String> {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        trouble.filter(|(at, _)| at.elapsed() < TROUBLE_MEMORY).map(|(_, reason)| reason)
    }

    fn missed(&self) -> MutexGuard<'_, Missed> {
        self.missed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be announced next: failed ones whose time has come, then new ones.
    async fn next_batch(&self, failed: &mut Failed) -> Vec<Waiting> {
        loop {
            let mut batch = failed.take_due(BATCH_LIMIT);
            {
                let mut waiting = self.waiting();
                let count = waiting.len().min(BATCH_LIMIT - batch.len());
                batch.extend(waiting.drain(..count).map(|run| Waiting { run, pause: FIRST_PAUSE }));
            }
            measure::outbox(self.waiting().len() + failed.by_time.len() + batch.len());
            if !batch.is_empty() {
                return batch;
            }
            match failed.earliest() {
                None => self.filled.notified().await,
                // Either way the loop looks again.
                Some(at) => drop(tokio::time::timeout_at(at, self.filled.notified()).await),
            }
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
        let (mut failed, mut untold) = (Failed::default(), Untold::default());
        loop {
            let batch = self.next_batch(&mut failed).await;
            self.publish(&*publisher, batch, &mut failed, &mut untold).await;
            if let Some(after) = more {
                more = self.load(&readers, after).await;
            }
        }
    }

    async fn publish(&self, publisher: &dyn Publisher, batch: Vec<Waiting>, failed: &mut Failed, untold: &mut Untold) {
        let runs: Vec<_> = batch.iter().map(|waiting| waiting.run.clone()).collect();
        let report = publish_guarded(publisher, &runs).await;
        self.missed().note(&runs, &report);
        measure::announced(runs.len().saturating_sub(report.failed.len()), report.failed.len());
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) =
            report.failed.first().map(|(_, reason)| (Instant::now(), reason.clone()));
        let Some((run, reason)) = report.failed.first() else { return };
        let count = report.failed.len();
        let mut batch: HashMap<_, _> = batch.into_iter().map(|waiting| (waiting.run.id, waiting)).collect();
        let again = report.failed.iter().filter_map(|(run, _)| batch.remove(run));
        let again = again.map(|waiting| failed.keep(waiting)).filter(|kept| *kept).count();
        untold.tell(count, again, *run, reason);
    }
}

impl Untold {
    /// Tells of a batch that failed, at once when that is news.
    fn tell(&mut self, failed: usize, again: usize, run: RunId, reason: &str) {
        self.failed += failed;
        self.again += again;
        if self.told.is_some_and(|told| told.elapsed() < TELL_EVERY) {
            return;
        }
        tracing::warn!(
            failed = self.failed,
            again = self.again,
            %run,
            reason,
            "runs could not be announced; most are tried again soon, the rest is announced by its age"
        );
        *self = Self { told: Some(Instant::now()), ..Self::default() };
    }
}

impl Missed {
    /// Takes note of what became of a batch.
    fn note(&mut self, runs: &[ReadyRun], report: &PublishReport) {
        let now = Instant::now();
        while let Some((at, run)) = self.by_time.front().copied()
            && (now.duration_since(at) >= MISSED_MEMORY || self.by_time.len() >= QUEUE_LIMIT)
        {
            self.by_time.pop_front();
            self.runs.remove(&run);
        }
        if !self.runs.is_empty() {
            for run in runs {
                self.runs.remove(&run.id);
            }
        }
        for (run, _) in &report.failed {
            self.runs.insert(*run);
            self.by_time.push_back((now, *run));
        }
    }
}

impl Failed {
    fn earliest(&self) -> Option<Instant> {
        self.by_time.first_key_value().map(|((at, _), _)| *at)
    }

    fn take_due(&mut self, limit: usize) -> Vec<Waiting> {
        let now = Instant::now();
        let mut due = Vec::new();
        while due.len() < limit
            && let Some(first) = self.by_time.first_entry()
            && first.key().0 <= now
        {
            due.push(first.remove());
        }
        due
    }

    /// Keeps a run for another try; `false` when it is left to its age.
    fn keep(&mut self, Waiting { run, pause }: Waiting) -> bool {
        if pause >= republish_backoff(Duration::ZERO) || self.by_time.len() >= QUEUE_LIMIT {
            return false;
        }
        self.next += 1;
        self.by_time.insert((Instant::now() + pause, self.next), Waiting { run, pause: pause * 2 });
        true
    }
}

/// A publisher that panics has announced nothing.
async fn publish_guarded(publisher: &dyn Publisher, runs: &[ReadyRun]) -> PublishReport {
    let mut publishing = None;
    let guarded = poll_fn(|context| {
        // The future is dropped after a panic, never polled again.
        let poll =
            AssertUnwindSafe(|| publishing.get_or_insert_with(|| publisher.publish(runs)).as_mut().poll(context));
        match catch_unwind(poll) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(report)) => Poll::Ready(Ok(report)),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    });
    match guarded.await {
        Ok(report) => report,
        Err(panic) => {
            let reason = format!("the publisher panicked: {}", panic_text(&*panic));
            tracing::error!(reason, "announcements go on");
            PublishReport { failed: runs.iter().map(|run| (run.id, reason.clone())).collect() }
        }
    }
}
