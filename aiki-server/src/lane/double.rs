//! A store for tests of the lane that fails as it is told.

use std::sync::Arc;

use aiki_core::hash::input_hash;
use aiki_core::listing::{RunFilter, WorkflowUse};
use aiki_core::name::{Source, WorkflowKey};
use aiki_core::run::plan::CreateRun;
use aiki_core::run::{Reference, RunHead};
use aiki_core::{Clock, Name, ReadyRun, RunId, Timestamp};
use aiki_runtime::{SeededEntropy, SystemClock};

use super::Lane;
use crate::effects::Effects;
use crate::operation::Create;
use crate::storage::memory::MemoryStorage;
use crate::storage::{
    LoadedRow, QueuedPlace, Reads, ReadyQuery, ReferenceKey, RunQuery, RunWrite, ScheduleReads, ScheduleWrite, Slot,
    Storage, StorageError,
};
use crate::timer::Timer;

type BeforeCommit = dyn FnMut(usize) -> Result<(), StorageError> + Send;

/// The memory store behind something that decides, by the number of rows, what becomes of a commit.
pub(super) struct Double {
    memory: MemoryStorage,
    before_commit: Box<BeforeCommit>,
}

impl Double {
    pub(super) fn new(before_commit: impl FnMut(usize) -> Result<(), StorageError> + Send + 'static) -> Self {
        Self { memory: MemoryStorage::default(), before_commit: Box::new(before_commit) }
    }
}

impl Reads for Double {
    fn load(&mut self, ids: &[RunId]) -> Result<Vec<LoadedRow>, StorageError> {
        self.memory.load(ids)
    }
    fn by_reference(&mut self, keys: &[ReferenceKey]) -> Result<Vec<Option<RunId>>, StorageError> {
        self.memory.by_reference(keys)
    }
    fn pages(&mut self, id: RunId, first: u32, end: u32) -> Result<Vec<String>, StorageError> {
        self.memory.pages(id, first, end)
    }
    fn children(&mut self, parent: RunId, limit: usize) -> Result<Vec<RunId>, StorageError> {
        self.memory.children(parent, limit)
    }
    fn is_marked(&mut self, id: RunId, mark: &str) -> Result<bool, StorageError> {
        self.memory.is_marked(id, mark)
    }
    fn queued(&mut self, after: QueuedPlace, limit: usize) -> Result<Vec<(QueuedPlace, ReadyRun)>, StorageError> {
        self.memory.queued(after, limit)
    }
    fn held(&mut self, after: QueuedPlace, limit: usize) -> Result<Vec<(QueuedPlace, Name)>, StorageError> {
        self.memory.held(after, limit)
    }
    fn runs(&mut self, query: &RunQuery) -> Result<Vec<RunHead>, StorageError> {
        self.memory.runs(query)
    }
    fn count(&mut self, namespace: &Name, filter: &RunFilter) -> Result<u64, StorageError> {
        self.memory.count(namespace, filter)
    }
    fn workflows(&mut self, namespace: &Name, of: Option<(Source, &Name)>) -> Result<Vec<WorkflowUse>, StorageError> {
        self.memory.workflows(namespace, of)
    }
    fn ended(
        &mut self,
        until: Timestamp,
        after: QueuedPlace,
        limit: usize,
    ) -> Result<Vec<(QueuedPlace, Name)>, StorageError> {
        self.memory.ended(until, after, limit)
    }
    fn schedules(&mut self) -> &mut dyn ScheduleReads {
        self.memory.schedules()
    }
}

impl Storage for Double {
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
    fn slots(&mut self, namespace: &Name, key: &str) -> Result<Vec<Slot>, StorageError> {
        self.memory.slots(namespace, key)
    }
    fn last_id(&mut self) -> Result<Option<RunId>, StorageError> {
        self.memory.last_id()
    }
}

/// A lane over a store, without anybody who wants to know of its commits.
pub(super) fn lane(storage: impl Storage) -> Lane {
    lane_with(storage, Arc::new(SystemClock))
}

/// As [`lane`], with a clock of one's own.
pub(super) fn lane_with(storage: impl Storage, clock: Arc<dyn Clock>) -> Lane {
    let (watchers, workers) = Default::default();
    let effects = Effects { server: 0, announcer: None, timer: Arc::new(Timer::new(None)), watchers, workers };
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
