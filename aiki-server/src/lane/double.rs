//! A store for tests of the lane that fails as it is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aiki_core::hash::input_hash;
use aiki_core::name::WorkflowKey;
use aiki_core::run::Reference;
use aiki_core::run::plan::CreateRun;
use aiki_core::{Clock, Name, RunId, Timestamp};
use aiki_runtime::{SeededEntropy, SystemClock};

use super::Lane;
use crate::effects::Effects;
use crate::operation::Create;
use crate::storage::memory::MemoryStorage;
use crate::storage::{Reads, ReadyQuery, RunWrite, ScheduleWrite, Slots, Storage, StorageError};
use crate::timer::Timer;

type BeforeCommit = dyn FnMut(usize) -> Result<(), StorageError> + Send;

/// The memory store behind something that decides, by the number of rows, what becomes of a commit.
pub(super) struct Double {
    memory: MemoryStorage,
    before_commit: Box<BeforeCommit>,
    cost: Arc<Cost>,
    shared: bool,
}

/// What the questions of a lane cost.
#[derive(Debug, Default)]
pub(super) struct Cost {
    /// Questions.
    pub(super) calls: AtomicUsize,
    /// Runs that were named in answers about concurrency keys.
    pub(super) slots: AtomicUsize,
}

impl Cost {
    /// Calls and slots since the last time.
    pub(super) fn take(&self) -> (usize, usize) {
        (self.calls.swap(0, Ordering::SeqCst), self.slots.swap(0, Ordering::SeqCst))
    }
}

impl Double {
    pub(super) fn new(before_commit: impl FnMut(usize) -> Result<(), StorageError> + Send + 'static) -> Self {
        let (memory, before_commit) = (MemoryStorage::default(), Box::new(before_commit));
        Self { memory, before_commit, cost: Arc::default(), shared: false }
    }

    /// As if other servers wrote to it as well.
    pub(super) fn shared(self) -> Self {
        Self { shared: true, ..self }
    }

    pub(super) fn cost(&self) -> Arc<Cost> {
        Arc::clone(&self.cost)
    }
}

impl Storage for Double {
    fn reads(&mut self) -> &mut dyn Reads {
        self.cost.calls.fetch_add(1, Ordering::SeqCst);
        &mut self.memory
    }

    fn commit(&mut self, writes: &[RunWrite<'_>], schedules: &[ScheduleWrite<'_>]) -> Result<(), StorageError> {
        (self.before_commit)(writes.len())?;
        self.memory.commit(writes, schedules)
    }
    fn due(&mut self, now: Timestamp, limit: usize) -> Result<Vec<RunId>, StorageError> {
        self.memory.due(now, limit)
    }
    fn next_due(&mut self, now: Timestamp) -> Result<Option<Timestamp>, StorageError> {
        self.memory.next_due(now)
    }
    fn ready(&mut self, query: &ReadyQuery<'_>, limit: usize) -> Result<Vec<RunId>, StorageError> {
        self.memory.ready(query, limit)
    }
    fn slots(&mut self, namespace: &Name, key: &str, limit: usize) -> Result<Slots, StorageError> {
        self.cost.calls.fetch_add(1, Ordering::SeqCst);
        let slots = self.memory.slots(namespace, key, limit)?;
        self.cost.slots.fetch_add(slots.lines.values().map(Vec::len).sum(), Ordering::SeqCst);
        Ok(slots)
    }
    fn last_id(&mut self) -> Result<Option<RunId>, StorageError> {
        self.memory.last_id()
    }
    fn is_shared(&self) -> bool {
        self.shared
    }
}

/// A lane over a store, without anybody who wants to know of its commits.
pub(super) fn lane(storage: impl Storage) -> Lane {
    lane_with(storage, Arc::new(SystemClock))
}

/// As [`lane`], with a clock of one's own.
pub(super) fn lane_with(storage: impl Storage, clock: Arc<dyn Clock>) -> Lane {
    let (watchers, workers) = Default::default();
    let (timer, seekers) = (Arc::new(Timer::new(None)), Arc::default());
    let doubt = Arc::default();
    let effects = Effects { server: 0, announcer: None, doubt, seekers, timer, watchers, workers };
    let entropy = Arc::new(SeededEntropy::new(1));
    Lane::new(Box::new(storage), clock, entropy, Arc::new(effects)).unwrap()
}

/// A request for a run of `w`, version 1, in the namespace `n`.
pub(super) fn create(reference: &str) -> Create {
    let reference = Some(Reference { id: reference.into(), conflict_policy: Default::default() });
    let key = WorkflowKey::user("w", "1");
    let request = CreateRun { reference, ..CreateRun::new(key, None, input_hash(None).unwrap()) };
    Create { namespace: Name::new("n"), request }
}
