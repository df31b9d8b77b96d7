//! A memory that outlives the server that uses it: for simulations of a server that is killed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aiki_core::{Name, RunId, Timestamp};

use super::memory::MemoryStorage;
use super::{Reads, ReadyQuery, RunWrite, ScheduleWrite, Slots, Storage, StorageError};

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

impl Storage for Lent {
    fn reads(&mut self) -> &mut dyn Reads {
        &mut self.memory
    }

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

    fn slots(&mut self, namespace: &Name, key: &str, limit: usize) -> Result<Slots, StorageError> {
        self.memory.slots(namespace, key, limit)
    }

    fn last_id(&mut self) -> Result<Option<RunId>, StorageError> {
        self.memory.last_id()
    }
}
