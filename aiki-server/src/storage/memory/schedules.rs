//! The schedules of the store without a disk.

use std::collections::{BTreeMap, BTreeSet};

use aiki_core::schedule::ScheduleRecord;
use aiki_core::{ScheduleId, Timestamp};

use crate::storage::{ScheduleKey, ScheduleQuery, ScheduleReads, ScheduleWrite, StorageError, StoredSchedule};

#[derive(Debug, Default)]
pub(crate) struct MemorySchedules {
    rows: BTreeMap<ScheduleId, StoredSchedule>,
    keys: BTreeMap<ScheduleKey, ScheduleId>,
    due: BTreeSet<(Timestamp, ScheduleId)>,
}

fn keys(record: &ScheduleRecord) -> impl Iterator<Item = ScheduleKey> {
    std::iter::once(ScheduleKey::definition(record)).chain(ScheduleKey::reference(record))
}

impl MemorySchedules {
    /// Whether a write may be made.
    pub(super) fn check(&self, write: &ScheduleWrite<'_>) -> Result<(), StorageError> {
        let record = &write.schedule.record;
        let taken = keys(record).any(|key| self.keys.get(&key).is_some_and(|owner| *owner != record.id));
        match taken || self.rows.get(&record.id).map(|row| row.version) != write.expected {
            true => Err(StorageError::ScheduleConflict(record.id)),
            false => Ok(()),
        }
    }

    /// Makes a write that was checked.
    pub(super) fn write(&mut self, write: &ScheduleWrite<'_>) {
        let record = &write.schedule.record;
        if let Some(before) = self.rows.insert(record.id, write.schedule.clone()) {
            keys(&before.record).for_each(|key| {
                self.keys.remove(&key);
            });
            before.record.due_at().map(|due| self.due.remove(&(due, record.id)));
        }
        self.keys.extend(keys(record).map(|key| (key, record.id)));
        self.due.extend(record.due_at().map(|due| (due, record.id)));
    }
}

impl ScheduleReads for MemorySchedules {
    fn load(&mut self, id: ScheduleId) -> Result<Option<StoredSchedule>, StorageError> {
        Ok(self.rows.get(&id).cloned())
    }

    fn find(&mut self, key: &ScheduleKey) -> Result<Option<ScheduleId>, StorageError> {
        Ok(self.keys.get(key).copied())
    }

    fn list(&mut self, query: &ScheduleQuery) -> Result<(Vec<ScheduleRecord>, u64), StorageError> {
        let records = self.rows.values().map(|row| &row.record);
        let mut fitting: Vec<_> =
            records.filter(|record| record.namespace == query.namespace && query.filter.matches(record)).collect();
        fitting.sort_by_key(|record| (record.created_at, record.id));
        let total = fitting.len() as u64;
        Ok((fitting.into_iter().skip(query.offset).take(query.limit).cloned().collect(), total))
    }

    fn due(&mut self, now: Timestamp, limit: usize) -> Result<Vec<ScheduleId>, StorageError> {
        Ok(self.due.iter().take_while(|(due, _)| *due <= now).take(limit).map(|(_, id)| *id).collect())
    }

    fn next_due(&mut self, now: Timestamp) -> Result<Option<Timestamp>, StorageError> {
        let after = (now, ScheduleId::from_bits(u128::MAX));
        Ok(self.due.range(after..).find(|(due, _)| *due > now).map(|(due, _)| *due))
    }

    fn last_id(&mut self) -> Result<Option<ScheduleId>, StorageError> {
        Ok(self.rows.keys().next_back().copied())
    }
}
