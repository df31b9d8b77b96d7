//! What the processes of a simulation share.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aiki_core::subscriber::Receipt;
use aiki_core::{Clock, Delivery, Name, RunId, ServerClient, Timestamp};
use aiki_subscriber_memory::{MemoryQueue, MemoryQueueConfig};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::bug::Bug;
use super::chance::Chance;
use super::process::Process;
use crate::history::{Fault, Ledger, What};

/// How long claims and deliveries last without a sign of life.
pub(crate) const LEASE: Duration = Duration::from_millis(9_600);
/// What the server's clock shows when the world begins: 1 March 2026, 02:00 UTC.
const BEGINNING: u64 = 1_772_330_400_000;

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The world.
pub(crate) struct World {
    pub(crate) chance: Chance,
    pub(crate) ledger: Ledger,
    pub(crate) bug: Option<Bug>,
    pub(crate) epoch: Instant,
    /// The time at which the present round began, in milliseconds.
    pub(crate) round: AtomicU64,
    /// No more faults from here on.
    pub(crate) calm: AtomicBool,
    /// The server that answers at present.
    server: Mutex<Option<Arc<dyn ServerClient>>>,
    /// Counts the servers that there were: what was asked of an earlier one is never answered.
    pub(crate) generation: AtomicU64,
    pub(crate) server_gone: Notify,
    pub(crate) server_clock: Arc<ServerClock>,
    pub(crate) transport: Transport,
    /// Runs that callers were told of, with the name of their workflow.
    pub(crate) runs: Mutex<Vec<(RunId, String)>>,
    /// All runs that anybody has heard of.
    pub(crate) known: Mutex<BTreeSet<RunId>>,
    /// The epoch of each run's latest claim.
    pub(crate) granted: Mutex<BTreeMap<RunId, u64>>,
    /// Ways to recover that were taken.
    pub(crate) taken: Mutex<BTreeSet<&'static str>>,
    pub(crate) counter: AtomicU64,
}

/// The queue and what is wrong with it.
pub(crate) struct Transport {
    queue: Mutex<MemoryQueue>,
    /// Counts the queues that there were.
    pub(crate) generation: AtomicU64,
    pub(crate) down: AtomicBool,
    /// Copies of deliveries, for whoever receives next.
    pub(crate) copies: Mutex<VecDeque<Delivery>>,
    /// What each worker holds.
    pub(crate) held: Mutex<BTreeMap<Name, BTreeMap<Receipt, RunId>>>,
}

impl Transport {
    pub(crate) fn queue(&self) -> MemoryQueue {
        lock(&self.queue).clone()
    }

    fn fresh() -> MemoryQueue {
        MemoryQueue::with(MemoryQueueConfig { claim_min_idle_time: LEASE, ..MemoryQueueConfig::default() })
    }

    /// Loses all that is in it.
    pub(crate) fn wipe(&self) {
        *lock(&self.queue) = Self::fresh();
        lock(&self.copies).clear();
        self.generation.fetch_add(1, Ordering::SeqCst);
    }
}

impl World {
    pub(crate) fn new(seed: u64, bug: Option<Bug>) -> Arc<Self> {
        let epoch = Instant::now() + Duration::from_secs(3_600);
        Arc::new(Self {
            chance: Chance::new(seed),
            ledger: Ledger::default(),
            bug,
            epoch,
            round: AtomicU64::new(0),
            calm: AtomicBool::new(false),
            server: Mutex::new(None),
            generation: AtomicU64::new(0),
            server_gone: Notify::new(),
            server_clock: Arc::new(ServerClock { epoch, latest: AtomicU64::new(0), offset: AtomicI64::new(0) }),
            transport: Transport {
                queue: Mutex::new(Transport::fresh()),
                generation: AtomicU64::new(0),
                down: AtomicBool::new(false),
                copies: Mutex::default(),
                held: Mutex::default(),
            },
            runs: Mutex::default(),
            known: Mutex::default(),
            granted: Mutex::default(),
            taken: Mutex::default(),
            counter: AtomicU64::new(0),
        })
    }

    /// Milliseconds since the world began, as the present process sees it.
    pub(crate) fn now(&self) -> u64 {
        local_time(self.epoch).unwrap_or_else(|| self.round.load(Ordering::SeqCst))
    }

    pub(crate) fn note(&self, what: What) {
        match &what {
            // A run that a bug made up is not shown by anybody.
            What::Created { run, .. } if run.to_bits() >> 80 == 0 => {}
            What::Created { run, .. } | What::Granted { run, .. } | What::Published { run } => {
                lock(&self.known).insert(*run);
            }
            _ => {}
        }
        self.ledger.note(self.now(), what);
    }

    pub(crate) fn fault(&self, fault: Fault, process: Option<&Process>) {
        self.note(What::Fault { fault, worker: process.map(Process::name) });
    }

    /// A way to recover was taken.
    pub(crate) fn took(&self, way: &'static str) {
        lock(&self.taken).insert(way);
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.calm.load(Ordering::SeqCst)
    }

    /// Whether something goes wrong now that goes wrong `per_mille` times in a thousand.
    pub(crate) fn goes_wrong(&self, per_mille: u64) -> bool {
        !self.is_calm() && self.chance.happens(per_mille)
    }

    pub(crate) fn server(&self) -> Option<Arc<dyn ServerClient>> {
        lock(&self.server).clone()
    }

    /// Another server answers from now on, or none.
    pub(crate) fn set_server(&self, server: Option<Arc<dyn ServerClient>>) {
        *lock(&self.server) = server;
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.server_gone.notify_waiters();
    }

    pub(crate) fn next_number(&self) -> u64 {
        self.counter.fetch_add(1, Ordering::SeqCst)
    }
}

fn local_time(epoch: Instant) -> Option<u64> {
    let inside = tokio::runtime::Handle::try_current().is_ok();
    inside.then(|| Instant::now().saturating_duration_since(epoch).as_millis() as u64)
}

/// The server's clock. Processes take turns, so the clock never shows less than it has shown, unless it is
/// set back.
#[derive(Debug)]
pub(crate) struct ServerClock {
    epoch: Instant,
    latest: AtomicU64,
    offset: AtomicI64,
}

impl ServerClock {
    /// Sets the clock forward, or back.
    pub(crate) fn set(&self, by_ms: i64) {
        self.offset.fetch_add(by_ms, Ordering::SeqCst);
    }
}

impl Clock for ServerClock {
    fn now(&self) -> Timestamp {
        let seen = local_time(self.epoch).unwrap_or_default();
        let now = self.latest.fetch_max(seen, Ordering::SeqCst).max(seen);
        Timestamp::from_millis((BEGINNING + now).saturating_add_signed(self.offset.load(Ordering::SeqCst)))
    }
}

/// The clock of a process that is not the server's.
pub(crate) struct LocalClock {
    pub(crate) epoch: Instant,
    pub(crate) skew: i64,
}

impl Clock for LocalClock {
    fn now(&self) -> Timestamp {
        let now = local_time(self.epoch).unwrap_or_default();
        Timestamp::from_millis((BEGINNING + now).saturating_add_signed(self.skew))
    }
}
