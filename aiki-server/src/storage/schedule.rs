//! What a store does for schedules: one row each.

use aiki_core::schedule::{ScheduleFilter, ScheduleRecord};
use aiki_core::{InputHash, Name, ScheduleId, Timestamp};

use super::StorageError;

/// A schedule as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StoredSchedule {
    pub(crate) record: ScheduleRecord,
    /// Counts the writes of the row: the fence of the next one.
    pub(crate) version: u64,
}

/// What is unique among the schedules of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ScheduleKey {
    Definition(Name, InputHash),
    Reference(Name, String),
}

impl ScheduleKey {
    pub(crate) fn definition(record: &ScheduleRecord) -> Self {
        ScheduleKey::Definition(record.namespace.clone(), record.definition_hash.clone())
    }

    pub(crate) fn reference(record: &ScheduleRecord) -> Option<Self> {
        record.reference_id.clone().map(|id| ScheduleKey::Reference(record.namespace.clone(), id))
    }

    /// Whether a schedule is the one with this key.
    pub(crate) fn is_of(&self, record: &ScheduleRecord) -> bool {
        match self {
            ScheduleKey::Definition(namespace, hash) => {
                *namespace == record.namespace && *hash == record.definition_hash
            }
            ScheduleKey::Reference(namespace, id) => {
                *namespace == record.namespace && record.reference_id.as_ref() == Some(id)
            }
        }
    }
}

/// One row to be written.
#[derive(Debug)]
pub(crate) struct ScheduleWrite<'a> {
    /// The schedule after the write.
    pub(crate) schedule: &'a StoredSchedule,
    /// The version that the row must have; `None`: there must be no row yet.
    pub(crate) expected: Option<u64>,
}

/// Which schedules are asked for. The filter decides; it is the same for every store.
#[derive(Clone, Debug)]
pub(crate) struct ScheduleQuery {
    pub(crate) namespace: Name,
    pub(crate) filter: ScheduleFilter,
    pub(crate) limit: usize,
    pub(crate) offset: usize,
}

/// Questions about schedules. They change nothing.
pub(crate) trait ScheduleReads {
    /// The schedule with this id.
    fn load(&mut self, id: ScheduleId) -> Result<Option<StoredSchedule>, StorageError>;

    /// The id of the schedule with this key.
    fn find(&mut self, key: &ScheduleKey) -> Result<Option<ScheduleId>, StorageError>;

    /// The schedules that fit, by creation time and id, and how many fit in all. Rows that cannot be read are left
    /// out.
    fn list(&mut self, query: &ScheduleQuery) -> Result<(Vec<ScheduleRecord>, u64), StorageError>;

    /// Schedules that are due at `now`, the earliest first, at most `limit`.
    fn due(&mut self, now: Timestamp, limit: usize) -> Result<Vec<ScheduleId>, StorageError>;

    /// The first due time after `now`.
    fn next_due(&mut self, now: Timestamp) -> Result<Option<Timestamp>, StorageError>;

    /// The highest id of a schedule.
    fn last_id(&mut self) -> Result<Option<ScheduleId>, StorageError>;
}
