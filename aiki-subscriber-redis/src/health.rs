//! How a subscription is doing.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Why a connection was built again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReconnectCause {
    Lost,
    Abandoned,
}

impl fmt::Display for ReconnectCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lost => "lost",
            Self::Abandoned => "given up",
        })
    }
}

/// A picture of one subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// The worker whose subscription it is.
    pub worker: String,
    /// What is wrong at this moment, if anything.
    pub trouble: Option<String>,
    /// Streams that hold something else than a stream and are left alone.
    pub broken_streams: Vec<String>,
    /// The `maxmemory-policy` of Redis if it is not `noeviction`: when memory is short it may delete streams, and their runs
    /// wait until the server announces them again.
    pub eviction_policy: Option<String>,
    /// Time since Redis last answered a question for deliveries.
    pub since_read: Option<Duration>,
    /// Time since the reading loop last went round. Longer than twice the block time and a few seconds means that
    /// the loop hangs. It goes round also while nobody is in `receive` and while Redis is away.
    pub since_tick: Duration,
    /// Time since Redis last answered a PING.
    pub since_ping: Option<Duration>,
    /// Deliveries that are neither settled nor handed back.
    pub held: usize,
    /// Connections that broke and were built again.
    pub connections_lost: u64,
    /// Connections that were given up as dead and built again.
    pub connections_abandoned: u64,
    /// Times that streams or groups had to be made again.
    pub groups_recreated: u64,
    /// Entries that could not be read and went to the dead letters.
    pub dead_letters: u64,
    /// Deliveries that were taken over from others.
    pub taken_over: u64,
}

#[derive(Debug)]
pub(crate) struct Counters {
    lost: AtomicU64,
    abandoned: AtomicU64,
    suspicions: AtomicU64,
    pub(crate) groups_recreated: AtomicU64,
    pub(crate) dead_letters: AtomicU64,
    pub(crate) taken_over: AtomicU64,
    moments: Mutex<Moments>,
    eviction_policy: Mutex<Option<String>>,
    /// A Redis that was away answers again.
    answers: Notify,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Moments {
    pub(crate) read: Option<Instant>,
    pub(crate) tick: Instant,
    pub(crate) ping: Option<Instant>,
}

impl Counters {
    pub(crate) fn new() -> Self {
        Self {
            lost: AtomicU64::new(0),
            abandoned: AtomicU64::new(0),
            suspicions: AtomicU64::new(0),
            groups_recreated: AtomicU64::new(0),
            dead_letters: AtomicU64::new(0),
            taken_over: AtomicU64::new(0),
            moments: Mutex::new(Moments { read: None, tick: Instant::now(), ping: None }),
            eviction_policy: Mutex::default(),
            answers: Notify::new(),
        }
    }

    /// A Redis that was away answers again: whoever pauses before the next attempt need not.
    pub(crate) fn tell_that_it_answers(&self) {
        self.answers.notify_waiters();
    }

    /// Waits for the moment in which another connection is told so.
    pub(crate) async fn answers(&self) {
        self.answers.notified().await;
    }

    pub(crate) fn reconnect(&self, cause: ReconnectCause) {
        let counter = match cause {
            ReconnectCause::Lost => &self.lost,
            ReconnectCause::Abandoned => &self.abandoned,
        };
        add(counter, 1);
    }

    /// Redis may have stood still.
    pub(crate) fn suspect(&self) {
        add(&self.suspicions, 1);
    }

    pub(crate) fn suspicions(&self) -> u64 {
        self.suspicions.load(Ordering::Relaxed)
    }

    pub(crate) fn mark(&self, change: impl FnOnce(&mut Moments, Instant)) {
        change(&mut self.moments.lock().unwrap_or_else(PoisonError::into_inner), Instant::now());
    }

    /// Notes the policy, and warns when it has become a bad one.
    pub(crate) fn note_eviction(&self, policy: Option<String>) {
        let mut noted = self.eviction_policy.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(policy) = policy.as_ref().filter(|_| policy != *noted) {
            tracing::warn!(policy, "redis may evict streams when its memory is full: set maxmemory-policy noeviction");
        }
        *noted = policy;
    }

    pub(crate) fn fill(&self, health: &mut Health) {
        let moments = *self.moments.lock().unwrap_or_else(PoisonError::into_inner);
        health.since_read = moments.read.map(|at| at.elapsed());
        health.since_tick = moments.tick.elapsed();
        health.since_ping = moments.ping.map(|at| at.elapsed());
        health.connections_lost = self.lost.load(Ordering::Relaxed);
        health.connections_abandoned = self.abandoned.load(Ordering::Relaxed);
        health.groups_recreated = self.groups_recreated.load(Ordering::Relaxed);
        health.dead_letters = self.dead_letters.load(Ordering::Relaxed);
        health.eviction_policy = self.eviction_policy.lock().unwrap_or_else(PoisonError::into_inner).clone();
        health.taken_over = self.taken_over.load(Ordering::Relaxed);
    }
}

pub(crate) fn add(counter: &AtomicU64, amount: usize) {
    counter.fetch_add(amount as u64, Ordering::Relaxed);
}
