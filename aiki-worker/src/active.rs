//! The runs that a worker executes, as its dispatcher, its heartbeats and its status see them.

use std::collections::BTreeMap;
use std::panic::Location;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use aiki_core::server_client::ClaimRef;
use aiki_core::subscriber::Receipt;
use aiki_core::{ExecutionScope, RunId, Timestamp, WorkflowKey};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::session::Session;
use crate::status::ActiveRun;

/// A clock for atomics: milliseconds since it was made, from 1, so that 0 can mean "never".
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticks {
    origin: Instant,
}

impl Ticks {
    pub(crate) fn new() -> Self {
        Self { origin: Instant::now() }
    }

    pub(crate) fn now(&self) -> u64 {
        self.at(Instant::now())
    }

    pub(crate) fn at(&self, instant: Instant) -> u64 {
        instant.saturating_duration_since(self.origin).as_millis() as u64 + 1
    }

    /// Time since `tick`; `None` when it never was.
    pub(crate) fn since(&self, tick: u64) -> Option<Duration> {
        (tick != 0).then(|| Duration::from_millis(self.now().saturating_sub(tick)))
    }
}

/// What an executor lets others see of a handler.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    poll_began: AtomicU64,
    foreign_wait: AtomicBool,
    long_poll_told: AtomicBool,
    last_call: Mutex<Option<&'static Location<'static>>>,
    news: AtomicBool,
    news_waker: Mutex<Option<Waker>>,
    closing: AtomicBool,
}

impl Watch {
    /// Whether a report that gives the claim up is under way.
    pub(crate) fn set_closing(&self, closing: bool) {
        self.closing.store(closing, Ordering::SeqCst);
    }

    /// Whether the claim may be gone because of the handler's own last report: its answer tells.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    pub(crate) fn poll_begins(&self, tick: u64) {
        self.poll_began.store(tick, Ordering::Relaxed);
    }

    pub(crate) fn poll_ends(&self) {
        self.poll_began.store(0, Ordering::Relaxed);
    }

    /// When the present poll began; 0 when there is none.
    pub(crate) fn polling_since(&self) -> u64 {
        self.poll_began.load(Ordering::Relaxed)
    }

    /// Whether the long poll is worth a warning: true once per handler.
    pub(crate) fn tell_long_poll(&self) -> bool {
        !self.long_poll_told.swap(true, Ordering::Relaxed)
    }

    pub(crate) fn set_foreign_wait(&self, waits: bool) {
        self.foreign_wait.store(waits, Ordering::Relaxed);
    }

    /// A signal has come for the run.
    pub(crate) fn bring_news(&self) {
        self.news.store(true, Ordering::SeqCst);
        let waker = self.news_waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        waker.into_iter().for_each(Waker::wake);
    }

    /// Whether a signal has come since the last look; who looks is woken by the next one.
    pub(crate) fn take_news(&self, waker: &Waker) -> bool {
        let mut slot = self.news_waker.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.as_ref().is_none_or(|known| !known.will_wake(waker)) {
            *slot = Some(waker.clone());
        }
        self.news.swap(false, Ordering::SeqCst)
    }

    pub(crate) fn set_last_call(&self, location: Option<&'static Location<'static>>) {
        *self.last_call.lock().unwrap_or_else(PoisonError::into_inner) = location;
    }

    pub(crate) fn last_call(&self) -> Option<&'static Location<'static>> {
        *self.last_call.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One run under execution.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) claim: ClaimRef,
    pub(crate) workflow: WorkflowKey,
    pub(crate) receipt: Receipt,
    pub(crate) session: Arc<Session>,
    pub(crate) since: Timestamp,
    pub(crate) began: u64,
    pub(crate) scope: ExecutionScope,
    pub(crate) watch: Watch,
    /// When the last refresh that the server confirmed was sent, the claim itself at first.
    confirmed: AtomicU64,
}

impl Active {
    pub(crate) fn confirmed(&self) -> u64 {
        self.confirmed.load(Ordering::Relaxed)
    }

    pub(crate) fn confirm(&self, sent: u64) {
        self.confirmed.fetch_max(sent, Ordering::Relaxed);
    }
}

/// What is known of a run when its execution begins.
pub(crate) struct Begun {
    pub(crate) claim: ClaimRef,
    pub(crate) workflow: WorkflowKey,
    pub(crate) receipt: Receipt,
    pub(crate) session: Arc<Session>,
    pub(crate) since: Timestamp,
    pub(crate) claim_sent: Instant,
}

/// All runs under execution. Never more than the worker has slots.
#[derive(Debug)]
pub(crate) struct ActiveRuns {
    pub(crate) ticks: Ticks,
    runs: Mutex<BTreeMap<RunId, Arc<Active>>>,
    busy: watch::Sender<bool>,
}

impl ActiveRuns {
    pub(crate) fn new() -> Self {
        Self { ticks: Ticks::new(), runs: Mutex::default(), busy: watch::Sender::new(false) }
    }

    pub(crate) fn begin(&self, begun: Begun) -> Arc<Active> {
        let active = Arc::new(Active {
            claim: begun.claim,
            workflow: begun.workflow,
            receipt: begun.receipt,
            session: begun.session,
            since: begun.since,
            began: self.ticks.now(),
            scope: ExecutionScope::default(),
            watch: Watch::default(),
            confirmed: AtomicU64::new(self.ticks.at(begun.claim_sent)),
        });
        self.lock().insert(active.claim.run, active.clone());
        self.tell_busy();
        active
    }

    pub(crate) fn end(&self, run: RunId) -> Option<Arc<Active>> {
        let ended = self.lock().remove(&run);
        self.tell_busy();
        ended
    }

    /// Whether anything is executed, now and from now on.
    pub(crate) fn busy(&self) -> watch::Receiver<bool> {
        self.busy.subscribe()
    }

    fn tell_busy(&self) {
        self.busy.send_if_modified(|told| {
            let busy = !self.lock().is_empty();
            std::mem::replace(told, busy) != busy
        });
    }

    pub(crate) fn get(&self, run: RunId) -> Option<Arc<Active>> {
        self.lock().get(&run).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Active>> {
        self.lock().values().cloned().collect()
    }

    /// Time since the lease that was confirmed longest ago was confirmed.
    pub(crate) fn oldest_lease(&self) -> Option<Duration> {
        let oldest = self.lock().values().map(|active| active.confirmed()).min()?;
        self.ticks.since(oldest)
    }

    /// The runs as a status shows them, longest first.
    pub(crate) fn show(&self) -> Vec<ActiveRun> {
        let mut shown: Vec<ActiveRun> = self
            .all()
            .into_iter()
            .map(|active| ActiveRun {
                run: active.claim.run,
                workflow: active.workflow.clone(),
                since: active.since,
                age: self.ticks.since(active.began).unwrap_or_default(),
                last_call: active.watch.last_call(),
                polling_for: self.ticks.since(active.watch.polling_since()),
                foreign_wait: active.watch.foreign_wait.load(Ordering::Relaxed),
            })
            .collect();
        shown.sort_by(|a, b| b.age.cmp(&a.age).then(a.run.cmp(&b.run)));
        shown
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<RunId, Arc<Active>>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
