//! The writer: commits, and the questions that only the lane asks.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use aiki_core::{Name, RunId, Timestamp};
use rusqlite::{CachedStatement, Connection, ErrorCode, OptionalExtension, Transaction, TransactionBehavior, params};

use super::checkpoint::{Checkpointer, Written};
use super::read::SqliteReads;
use super::{schedules, to_column, to_rank, to_run_id, to_timestamp, workflows};
use crate::storage::{
    Reads, ReadyQuery, RunWrite, ScheduleWrite, Slots, Storage, StorageError, StoredRun, Wait, slot_key, wait,
    workflow_changes,
};

/// SQLite's own limit of a file, in pages.
const MAX_PAGES: u32 = 1_073_741_823;

/// The connection that writes, with what has to live as long.
pub(super) struct SqliteStorage {
    reads: SqliteReads,
    checkpointer: Checkpointer,
    page_limit: Option<Arc<AtomicU32>>,
    /// Let go of last of all.
    _lock: File,
}

impl SqliteStorage {
    pub(super) fn new(
        connection: Connection,
        checkpointer: Checkpointer,
        page_limit: Option<Arc<AtomicU32>>,
        lock: File,
    ) -> Self {
        Self { reads: SqliteReads(connection), checkpointer, page_limit, _lock: lock }
    }
}

const INSERT: &str = "
    INSERT INTO runs (id, version, namespace, source, name, version_id, pool, reference_id,
                      status, due_at, rank, pages, head, tail, parent, slot_key, wait_limit, wait_rank, schedule,
                      ended_at)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)";

/// SQLite writes the indexes of every column that is named here anew, also when it does not change: most writes do
/// not change the status.
const UPDATE: &str = "
    UPDATE runs SET version = ?2, due_at = ?3, rank = ?4, pages = ?5, head = ?6, tail = ?7, slot_key = ?9,
                    wait_limit = ?10, wait_rank = ?11
    WHERE id = ?1 AND version = ?8";

const MOVE: &str = "
    UPDATE runs SET version = ?2, due_at = ?3, rank = ?4, pages = ?5, head = ?6, tail = ?7, slot_key = ?9,
                    wait_limit = ?10, wait_rank = ?11, status = ?12, ended_at = ?13
    WHERE id = ?1 AND version = ?8";

const HOLDING: &str = "
    SELECT count(*) FROM runs INDEXED BY runs_slot WHERE namespace = ?1 AND slot_key = ?2 AND wait_limit IS NULL";

const NEXT_LINE: &str = "
    SELECT wait_limit FROM runs INDEXED BY runs_slot WHERE namespace = ?1 AND slot_key = ?2 AND wait_limit > ?3
    ORDER BY wait_limit LIMIT 1";

const LINE: &str = "
    SELECT wait_rank, id FROM runs INDEXED BY runs_slot WHERE namespace = ?1 AND slot_key = ?2 AND wait_limit = ?3
    ORDER BY wait_rank, id LIMIT ?4";

struct Statements<'a> {
    insert: CachedStatement<'a>,
    update: CachedStatement<'a>,
    moved: CachedStatement<'a>,
    page: CachedStatement<'a>,
    drop_pages: CachedStatement<'a>,
    mark: CachedStatement<'a>,
}

impl<'a> Statements<'a> {
    fn prepare(transaction: &'a Transaction<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            insert: transaction.prepare_cached(INSERT)?,
            update: transaction.prepare_cached(UPDATE)?,
            moved: transaction.prepare_cached(MOVE)?,
            page: transaction.prepare_cached("INSERT INTO history (run, page, entries) VALUES (?1, ?2, ?3)")?,
            drop_pages: transaction.prepare_cached("DELETE FROM history WHERE run = ?1 AND page < ?2")?,
            mark: transaction.prepare_cached("INSERT INTO marks (run, mark) VALUES (?1, ?2)")?,
        })
    }

    /// Writes a row and the pages that left it; answers how many bytes they have.
    fn write(&mut self, write: &RunWrite<'_>) -> Result<usize, StorageError> {
        let StoredRun { head, tail, pages, version } = write.run;
        let id = head.id.to_bytes();
        let text = serde_json::to_string(head).map_err(|error| StorageError::Failed(error.to_string()))?;
        let due = head.due_at().map(|due| to_column(due.as_millis()));
        let rank = head.rank().map(|rank| to_column(rank.as_u64()));
        let status = head.state.status().as_str();
        let version = to_column(*version);
        let (slot, wait) = (slot_key(head), wait(head));
        let (limit, place) = (wait.map(|wait| wait.limit), wait.map(|wait| to_column(wait.rank.as_u64())));
        let ended = head.ended_at.map(|ended| to_column(ended.as_millis()));
        let written = match write.expected.map(to_column) {
            Some(expected) if write.was == Some(head.state.status()) => {
                self.update.execute(params![id, version, due, rank, pages, text, tail, expected, slot, limit, place])
            }
            Some(expected) => self.moved.execute(params![
                id, version, due, rank, pages, text, tail, expected, slot, limit, place, status, ended
            ]),
            None => {
                let key = &head.workflow;
                let pool = head.pool().map_or("", Name::as_str);
                let (source, name, of) = (key.source.as_str(), key.name.as_str(), key.version.as_str());
                let namespace = head.namespace.as_str();
                self.insert.execute(params![
                    id,
                    version,
                    namespace,
                    source,
                    name,
                    of,
                    pool,
                    head.reference_id,
                    status,
                    due,
                    rank,
                    pages,
                    text,
                    tail,
                    head.parent.map(|parent| parent.to_bytes()),
                    slot,
                    limit,
                    place,
                    head.schedule.map(|schedule| schedule.to_string()),
                    ended
                ])
            }
        };
        match written {
            Ok(1) => {}
            Ok(_) => return Err(StorageError::Conflict(head.id)),
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                return Err(StorageError::Conflict(head.id));
            }
            Err(error) => return Err(error.into()),
        }
        let first = pages - write.spilled.len() as u32;
        for (page, entries) in (first..).zip(write.spilled) {
            self.page.execute(params![id, page, entries])?;
        }
        if let Some(below) = write.drop_pages_below {
            self.drop_pages.execute(params![id, below])?;
        }
        for mark in write.marks {
            self.mark.execute(params![id, mark])?;
        }
        Ok(text.len() + tail.len() + write.spilled.iter().map(String::len).sum::<usize>())
    }
}

/// Removes a row with all that belongs to it.
fn forget(transaction: &Transaction<'_>, write: &RunWrite<'_>) -> Result<(), StorageError> {
    let id = write.run.head.id.to_bytes();
    let fence = write.expected.map(to_column);
    let removed =
        transaction.prepare_cached("DELETE FROM runs WHERE id = ?1 AND version = ?2")?.execute(params![id, fence])?;
    if removed != 1 {
        return Err(StorageError::Conflict(write.run.head.id));
    }
    transaction.prepare_cached("DELETE FROM history WHERE run = ?1")?.execute([id])?;
    transaction.prepare_cached("DELETE FROM marks WHERE run = ?1")?.execute([id])?;
    Ok(())
}

impl SqliteStorage {
    fn write(&mut self, writes: &[RunWrite<'_>], changed: &[ScheduleWrite<'_>]) -> Result<(), StorageError> {
        if let Some(limit) = &self.page_limit {
            let limit = Some(limit.load(Ordering::SeqCst)).filter(|limit| *limit > 0).unwrap_or(MAX_PAGES);
            self.reads.0.pragma_update(None, "max_page_count", limit)?;
        }
        let transaction = self.reads.0.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut statements = Statements::prepare(&transaction)?;
        let mut written = Written { rows: writes.len() + changed.len(), bytes: 0 };
        let (forgotten, kept): (Vec<_>, Vec<_>) = writes.iter().partition(|write| write.forget);
        for write in forgotten {
            forget(&transaction, write)?;
        }
        for write in kept {
            written.bytes += statements.write(write)?;
        }
        drop(statements);
        for change in workflow_changes(writes, changed) {
            workflows::write(&transaction, &change)?;
        }
        if !changed.is_empty() {
            let mut statements = schedules::Statements::prepare(&transaction)?;
            for write in changed {
                written.bytes += statements.write(write)?;
            }
        }
        #[cfg(feature = "fail-points")]
        crate::fail_points::committing();
        transaction.commit()?;
        self.checkpointer.count(written);
        Ok(())
    }
}

impl Storage for SqliteStorage {
    fn reads(&mut self) -> &mut dyn Reads {
        &mut self.reads
    }

    fn commit(&mut self, writes: &[RunWrite<'_>], schedules: &[ScheduleWrite<'_>]) -> Result<(), StorageError> {
        self.write(writes, schedules).map_err(StorageError::while_writing)
    }

    fn due(&mut self, now: Timestamp, limit: usize) -> Result<Vec<RunId>, StorageError> {
        let mut select =
            self.reads.0.prepare_cached("SELECT id FROM runs WHERE due_at <= ?1 ORDER BY due_at, id LIMIT ?2")?;
        let mut rows = select.query(params![to_column(now.as_millis()), to_column(limit as u64)])?;
        let mut ids = Vec::new();
        while let Some(row) = rows.next()? {
            ids.push(to_run_id(row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?)?);
        }
        Ok(ids)
    }

    fn next_due(&mut self, now: Timestamp) -> Result<Option<Timestamp>, StorageError> {
        let mut select =
            self.reads.0.prepare_cached("SELECT due_at FROM runs WHERE due_at > ?1 ORDER BY due_at LIMIT 1")?;
        let due: Option<i64> = select.query_row([to_column(now.as_millis())], |row| row.get(0)).optional()?;
        Ok(due.filter(|due| *due != i64::MAX).map(to_timestamp))
    }

    fn ready(&mut self, query: &ReadyQuery<'_>, limit: usize) -> Result<Vec<RunId>, StorageError> {
        let mut select = self.reads.0.prepare_cached(
            "SELECT rank, id FROM runs INDEXED BY runs_ready
             WHERE namespace = ?1 AND source = ?2 AND name = ?3 AND version_id = ?4 AND pool = ?5 AND rank IS NOT NULL
             ORDER BY rank, id LIMIT ?6",
        )?;
        let pools = if query.pools.is_empty() { &[Name::new("")][..] } else { query.pools };
        let mut found: Vec<(i64, RunId)> = Vec::new();
        for workflow in query.workflows {
            for pool in pools {
                let mut rows = select.query(params![
                    query.namespace.as_str(),
                    workflow.source.as_str(),
                    workflow.name.as_str(),
                    workflow.version.as_str(),
                    pool.as_str(),
                    to_column(limit as u64)
                ])?;
                while let Some(row) = rows.next()? {
                    let id = to_run_id(row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?)?;
                    found.push((row.get(0)?, id));
                }
            }
        }
        found.sort_unstable();
        found.dedup();
        Ok(found.into_iter().take(limit).map(|(_, id)| id).collect())
    }

    fn slots(&mut self, namespace: &Name, key: &str, limit: usize) -> Result<Slots, StorageError> {
        let (namespace, connection) = (namespace.as_str(), &self.reads.0);
        let holding: u32 = connection.prepare_cached(HOLDING)?.query_row([namespace, key], |row| row.get(0))?;
        let mut slots = Slots { holding: holding as usize, lines: BTreeMap::new() };
        if limit == 0 {
            return Ok(slots);
        }
        let (mut next, mut select) = (connection.prepare_cached(NEXT_LINE)?, connection.prepare_cached(LINE)?);
        let mut below = 0;
        // There are as many lines as the runs of a key differ in their limits.
        while let Some(places) = next.query_row(params![namespace, key, below], |row| row.get(0)).optional()? {
            let mut rows = select.query(params![namespace, key, places, to_column(limit as u64)])?;
            let mut line = Vec::new();
            while let Some(row) = rows.next()? {
                let run = to_run_id(row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?)?;
                line.push(Wait { rank: to_rank(row.get(0)?), run, limit: places });
            }
            slots.lines.insert(places, line);
            below = places;
        }
        Ok(slots)
    }

    fn last_id(&mut self) -> Result<Option<RunId>, StorageError> {
        let mut select = self.reads.0.prepare_cached("SELECT id FROM runs ORDER BY id DESC LIMIT 1")?;
        let id: Option<Vec<u8>> = select.query_row([], |row| row.get(0)).optional()?;
        id.as_deref().map(to_run_id).transpose()
    }

    fn maintain(&mut self, idle: bool) {
        self.checkpointer.maintain(&self.reads.0, idle);
    }
}
