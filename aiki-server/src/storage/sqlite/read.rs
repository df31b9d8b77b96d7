//! Questions to the database.

use aiki_core::{Name, ReadyRun, RunId};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{to_column, to_run_id, to_timestamp};
use crate::storage::{QueuedPlace, Reads, ReferenceKey, StorageError, StoredRun, ready_run};

/// A connection that reads.
pub(super) struct SqliteReads(pub(super) Connection);

fn stored_run(row: &Row<'_>) -> Result<StoredRun, StorageError> {
    let head = row.get_ref(0)?.as_str().map_err(|error| StorageError::Damaged(error.to_string()))?;
    Ok(StoredRun {
        head: serde_json::from_str(head).map_err(|error| StorageError::Damaged(error.to_string()))?,
        tail: row.get(1)?,
        pages: row.get(2)?,
        version: u64::try_from(row.get::<_, i64>(3)?).unwrap_or(0),
    })
}

impl Reads for SqliteReads {
    fn load(&mut self, ids: &[RunId]) -> Result<Vec<Option<StoredRun>>, StorageError> {
        let mut select = self.0.prepare_cached("SELECT head, tail, pages, version FROM runs WHERE id = ?1")?;
        let mut load = |id: &RunId| {
            let mut rows = select.query([id.to_bytes()])?;
            rows.next()?.map(stored_run).transpose()
        };
        ids.iter().map(&mut load).collect()
    }

    fn by_reference(&mut self, keys: &[ReferenceKey]) -> Result<Vec<Option<RunId>>, StorageError> {
        let mut select = self.0.prepare_cached(
            "SELECT id FROM runs WHERE namespace = ?1 AND source = ?2 AND name = ?3 AND version_id = ?4
             AND reference_id = ?5",
        )?;
        let mut find = |key: &ReferenceKey| {
            let ReferenceKey { namespace, workflow, reference_id } = key;
            let (source, name, version) = (workflow.source.as_str(), workflow.name.as_str(), workflow.version.as_str());
            let key = params![namespace.as_str(), source, name, version, reference_id];
            let id: Option<Vec<u8>> = select.query_row(key, |row| row.get(0)).optional()?;
            id.as_deref().map(to_run_id).transpose()
        };
        keys.iter().map(&mut find).collect()
    }

    fn pages(&mut self, id: RunId, count: u32) -> Result<Vec<String>, StorageError> {
        let mut select =
            self.0.prepare_cached("SELECT entries FROM history WHERE run = ?1 AND page < ?2 ORDER BY page")?;
        let rows = select.query_map(params![id.to_bytes(), count], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn queued(&mut self, after: QueuedPlace, limit: usize) -> Result<Vec<(QueuedPlace, ReadyRun)>, StorageError> {
        let mut select = self.0.prepare_cached(
            "SELECT head, tail, pages, version, due_at FROM runs INDEXED BY runs_due
             WHERE due_at IS NOT NULL AND (due_at, id) > (?1, ?2) AND rank IS NOT NULL
             ORDER BY due_at, id LIMIT ?3",
        )?;
        let key = params![to_column(after.0.as_millis()), after.1.to_bytes(), to_column(limit as u64)];
        let mut rows = select.query(key)?;
        let mut queued = Vec::new();
        while let Some(row) = rows.next()? {
            let head = stored_run(row)?.head;
            queued.push(((to_timestamp(row.get(4)?), head.id), ready_run(&head)));
        }
        Ok(queued)
    }

    fn held(&mut self, after: QueuedPlace, limit: usize) -> Result<Vec<(QueuedPlace, Name)>, StorageError> {
        let mut select = self.0.prepare_cached(
            "SELECT due_at, id, namespace FROM runs INDEXED BY runs_due
             WHERE due_at IS NOT NULL AND (due_at, id) > (?1, ?2) AND status = 'running'
             ORDER BY due_at, id LIMIT ?3",
        )?;
        let key = params![to_column(after.0.as_millis()), after.1.to_bytes(), to_column(limit as u64)];
        let mut rows = select.query(key)?;
        let mut held = Vec::new();
        while let Some(row) = rows.next()? {
            let id: Vec<u8> = row.get(1)?;
            held.push(((to_timestamp(row.get(0)?), to_run_id(&id)?), Name::new(row.get::<_, String>(2)?)));
        }
        Ok(held)
    }
}
