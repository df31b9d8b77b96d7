//! The table of schedules.

use aiki_core::schedule::ScheduleRecord;
use aiki_core::{Payload, ScheduleId, Timestamp};
use rusqlite::{CachedStatement, ErrorCode, OptionalExtension, Row, Transaction, params};

use super::read::SqliteReads;
use super::{to_column, to_run_id, to_timestamp};
use crate::storage::{ScheduleKey, ScheduleQuery, ScheduleReads, ScheduleWrite, StorageError, StoredSchedule};

fn to_schedule_id(column: &[u8]) -> Result<ScheduleId, StorageError> {
    to_run_id(column).map(|id| ScheduleId::from_bits(id.to_bits()))
}

fn record(row: &Row<'_>) -> Result<ScheduleRecord, Box<dyn std::error::Error>> {
    Ok(serde_json::from_str(row.get_ref(0)?.as_str()?)?)
}

fn input(row: &Row<'_>, column: usize) -> Result<Option<Payload>, Box<dyn std::error::Error>> {
    Ok(row.get::<_, Option<String>>(column)?.map(Payload::from_json).transpose()?)
}

fn stored(row: &Row<'_>) -> Result<StoredSchedule, Box<dyn std::error::Error>> {
    let record = ScheduleRecord { input: input(row, 1)?, ..record(row)? };
    Ok(StoredSchedule { record, version: u64::try_from(row.get::<_, i64>(2)?).unwrap_or(0) })
}

/// The statements of a commit.
pub(super) struct Statements<'a> {
    insert: CachedStatement<'a>,
    update: CachedStatement<'a>,
}

impl<'a> Statements<'a> {
    pub(super) fn prepare(transaction: &'a Transaction<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            insert: transaction.prepare_cached(
                "INSERT INTO schedules (id, version, namespace, definition_hash, reference_id, created_at, due_at, head,
                                        input)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?,
            update: transaction.prepare_cached(
                "UPDATE schedules SET version = ?2, definition_hash = ?3, reference_id = ?4, due_at = ?5, head = ?6
                 WHERE id = ?1 AND version = ?7",
            )?,
        })
    }

    /// Writes a row; answers how many bytes it has.
    pub(super) fn write(&mut self, write: &ScheduleWrite<'_>) -> Result<usize, StorageError> {
        let StoredSchedule { record, version } = write.schedule;
        let id = record.id.to_bytes();
        let head = serde_json::to_string(record).map_err(|error| StorageError::Failed(error.to_string()))?;
        let due = record.due_at().map(|due| to_column(due.as_millis()));
        let (hash, reference, version) = (record.definition_hash.as_str(), &record.reference_id, to_column(*version));
        let input = record.input.as_ref().map(Payload::as_str);
        let written = match write.expected {
            Some(expected) => {
                self.update.execute(params![id, version, hash, reference, due, head, to_column(expected)])
            }
            None => {
                let (namespace, created) = (record.namespace.as_str(), to_column(record.created_at.as_millis()));
                self.insert.execute(params![id, version, namespace, hash, reference, created, due, head, input])
            }
        };
        match written {
            Ok(1) => Ok(head.len() + input.map_or(0, str::len)),
            Ok(_) => Err(StorageError::ScheduleConflict(record.id)),
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                Err(StorageError::ScheduleConflict(record.id))
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl ScheduleReads for SqliteReads {
    fn load(&mut self, id: ScheduleId) -> Result<Option<StoredSchedule>, StorageError> {
        let mut select = self.0.prepare_cached("SELECT head, input, version FROM schedules WHERE id = ?1")?;
        let mut rows = select.query([id.to_bytes()])?;
        let damaged = |error: Box<dyn std::error::Error>| StorageError::Damaged(format!("schedule {id}: {error}"));
        rows.next()?.map(|row| stored(row).map_err(damaged)).transpose()
    }

    fn find(&mut self, key: &ScheduleKey) -> Result<Option<ScheduleId>, StorageError> {
        let (select, namespace, value) = match key {
            ScheduleKey::Definition(namespace, hash) => (
                "SELECT id FROM schedules WHERE namespace = ?1 AND definition_hash = ?2",
                namespace.as_str(),
                hash.as_str(),
            ),
            ScheduleKey::Reference(namespace, id) => {
                ("SELECT id FROM schedules WHERE namespace = ?1 AND reference_id = ?2", namespace.as_str(), &**id)
            }
        };
        let mut select = self.0.prepare_cached(select)?;
        let id: Option<Vec<u8>> = select.query_row([namespace, value], |row| row.get(0)).optional()?;
        id.as_deref().map(to_schedule_id).transpose()
    }

    fn list(&mut self, query: &ScheduleQuery) -> Result<(Vec<ScheduleRecord>, u64), StorageError> {
        let mut select = self
            .0
            .prepare_cached("SELECT head, input, id FROM schedules WHERE namespace = ?1 ORDER BY created_at, id")?;
        let mut rows = select.query([query.namespace.as_str()])?;
        let (mut page, mut total) = (Vec::new(), 0);
        while let Some(row) = rows.next()? {
            let fitting = record(row).map(|record| query.filter.matches(&record).then_some(record));
            let asked_for = total >= query.offset as u64 && page.len() < query.limit;
            match fitting.and_then(|record| Ok((record, if asked_for { input(row, 1)? } else { None }))) {
                Ok((None, _)) => {}
                Ok((Some(record), input)) => {
                    total += 1;
                    page.extend(asked_for.then_some(ScheduleRecord { input, ..record }));
                }
                Err(error) => {
                    let schedule = to_schedule_id(row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?)?;
                    tracing::error!(%schedule, %error, "a schedule cannot be read and is not listed");
                }
            }
        }
        Ok((page, total))
    }

    fn due(&mut self, now: Timestamp, limit: usize) -> Result<Vec<ScheduleId>, StorageError> {
        let mut select =
            self.0.prepare_cached("SELECT id FROM schedules WHERE due_at <= ?1 ORDER BY due_at, id LIMIT ?2")?;
        let mut rows = select.query(params![to_column(now.as_millis()), to_column(limit as u64)])?;
        let mut ids = Vec::new();
        while let Some(row) = rows.next()? {
            ids.push(to_schedule_id(row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?)?);
        }
        Ok(ids)
    }

    fn next_due(&mut self, now: Timestamp) -> Result<Option<Timestamp>, StorageError> {
        let mut select =
            self.0.prepare_cached("SELECT due_at FROM schedules WHERE due_at > ?1 ORDER BY due_at LIMIT 1")?;
        let due: Option<i64> = select.query_row([to_column(now.as_millis())], |row| row.get(0)).optional()?;
        Ok(due.map(to_timestamp))
    }

    fn last_id(&mut self) -> Result<Option<ScheduleId>, StorageError> {
        let mut select = self.0.prepare_cached("SELECT id FROM schedules ORDER BY id DESC LIMIT 1")?;
        let id: Option<Vec<u8>> = select.query_row([], |row| row.get(0)).optional()?;
        id.as_deref().map(to_schedule_id).transpose()
    }
}
