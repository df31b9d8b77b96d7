//! A memory that outlives the server that uses it: for simulations of a server that is killed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aiki_core::listing::{RunFilter, WorkflowUse};
use aiki_core::name::Source;
use aiki_core::run::RunHead;
use aiki_core::{Name, ReadyRun, RunId, Timestamp};

use super::memory::MemoryStorage;
use super::{
    LoadedRow, QueuedPlace, Reads, ReadyQuery, ReferenceKey, RunQuery, RunWrite, ScheduleReads, ScheduleWrite, Slot,
    Storage, StorageError,
};

/// Runs in memory, lent to one server at a time. Clones are one memory.
#[derive(Clone, Debug)]
pub struct KeptMemory {
    home: Arc<Mutex<Option<MemoryStorage>>>,
}

impl Default for KeptMemory {
    fn default() -> Self {
        Self { home: Arc::new(Mutex::new(Some(MemoryStorage::default()))) }
    }
}

impl KeptMemory {
    fn home(&self) -> MutexGuard<'_, Option<MemoryStorage>> {
        self.home.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the memory to a server; `None` while another one has it.
    pub(crate) fn lend(&self) -> Option<Lent> {
        self.home().take().map(|memory| Lent { memory, home: Arc::clone(&self.home) })
    }

    /// How many rows announce a run; `None` while a server has the memory.
    pub fn announcements(&self, run: RunId) -> Option<usize> {
        self.home().as_ref().map(|memory| memory.announcements(run))
    }

    /// How many runs are due at some time; `None` while a server has the memory.
    pub fn timers(&self) -> Option<usize> {
        self.home().as_ref().map(MemoryStorage::timers)
    }

    /// Loses the end of the history of a run: a fault that no store may have. Whether there was one.
    pub fn lose_tail(&self, run: RunId) -> bool {
        self.home().as_mut().is_some_and(|memory| memory.lose_tail(run))
    }
}

/// The memory in the hands of a server. It goes home when the server ends, however it does.
pub(crate) struct Lent {
    memory: MemoryStorage,
    home: Arc<Mutex<Option<MemoryStorage>>>,
}

impl Drop for Lent {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        *self.home.lock().unwrap_or_else(PoisonError::into_inner) = Some(memory);
    }
}

impl Reads for Lent {
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
        Reads::workflows(&mut self.memory, namespace, of)
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

impl Storage for Lent {
    fn commit(&mut self, writes: &[RunWrite<'_>], schedules: &[ScheduleWrite<'_>]) -> Result<(), StorageError> {
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
