//! Questions to the database.

use aiki_core::listing::{RunFilter, WorkflowUse};
use aiki_core::name::Source;
use aiki_core::run::RunHead;
use aiki_core::{Name, ReadyRun, RunId, Timestamp};
use rusqlite::{CachedStatement, Connection, ErrorCode, OptionalExtension, Row, params};

use super::{listing, to_column, to_run_id, to_timestamp, workflows};
use crate::storage::{
    LoadedRow, QueuedPlace, Reads, ReferenceKey, RunQuery, ScheduleReads, StorageError, StoredRun, ready_run,
};

/// A connection that reads.
pub(super) struct SqliteReads(pub(super) Connection);

/// Reads a row; the error says what is wrong with it.
fn stored_run(row: &Row<'_>) -> Result<StoredRun, Box<dyn std::error::Error>> {
    Ok(StoredRun {
        head: serde_json::from_str(row.get_ref(0)?.as_str()?)?,
        tail: row.get(1)?,
        pages: row.get(2)?,
        version: u64::try_from(row.get::<_, i64>(3)?).unwrap_or(0),
    })
}

/// Loads one row. Damage to it is the row's own, any other failure is the store's.
fn load(select: &mut CachedStatement<'_>, id: RunId) -> Result<LoadedRow, StorageError> {
    let damaged = |reason: String| StorageError::Damaged(format!("run {id}: {reason}"));
    let mut rows = select.query([id.to_bytes()])?;
    match rows.next() {
        Ok(None) => Ok(Ok(None)),
        Ok(Some(row)) => Ok(stored_run(row).map(Some).map_err(|error| damaged(error.to_string()))),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) => {
            Ok(Err(damaged(error.to_string())))
        }
        Err(error) => Err(error.into()),
    }
}

impl Reads for SqliteReads {
    fn load(&mut self, ids: &[RunId]) -> Result<Vec<LoadedRow>, StorageError> {
        let mut select = self.0.prepare_cached("SELECT head, tail, pages, version FROM runs WHERE id = ?1")?;
        ids.iter().map(|id| load(&mut select, *id)).collect()
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

    fn pages(&mut self, id: RunId, first: u32, end: u32) -> Result<Vec<String>, StorageError> {
        let mut select = self
            .0
            .prepare_cached("SELECT entries FROM history WHERE run = ?1 AND page >= ?2 AND page < ?3 ORDER BY page")?;
        let rows = select.query_map(params![id.to_bytes(), first, end], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn children(&mut self, parent: RunId, limit: usize) -> Result<Vec<RunId>, StorageError> {
        let mut select = self.0.prepare_cached("SELECT id FROM runs WHERE parent = ?1 ORDER BY id LIMIT ?2")?;
        let mut rows = select.query(params![parent.to_bytes(), to_column(limit as u64)])?;
        let mut children = Vec::new();
        while let Some(row) = rows.next()? {
            children.push(to_run_id(row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?)?);
        }
        Ok(children)
    }

    fn is_marked(&mut self, id: RunId, mark: &str) -> Result<bool, StorageError> {
        let mut select = self.0.prepare_cached("SELECT EXISTS (SELECT 1 FROM marks WHERE run = ?1 AND mark = ?2)")?;
        Ok(select.query_row(params![id.to_bytes(), mark], |row| row.get(0))?)
    }

    fn queued(&mut self, after: QueuedPlace, limit: usize) -> Result<Vec<(QueuedPlace, ReadyRun)>, StorageError> {
        let mut select = self.0.prepare_cached(
            "SELECT head, tail, pages, version, due_at, id FROM runs INDEXED BY runs_due
             WHERE due_at IS NOT NULL AND (due_at, id) > (?1, ?2) AND rank IS NOT NULL
             ORDER BY due_at, id",
        )?;
        let mut rows = select.query(params![to_column(after.0.as_millis()), after.1.to_bytes()])?;
        let mut queued = Vec::new();
        // The limit is counted here: rows that cannot be read must not look like the end of the list.
        while queued.len() < limit
            && let Some(row) = rows.next()?
        {
            match stored_run(row) {
                Ok(StoredRun { head, .. }) => {
                    queued.push(((to_timestamp(row.get(4)?), head.id), ready_run(&head)));
                }
                Err(error) => {
                    let run = to_run_id(row.get_ref(5)?.as_blob().map_err(rusqlite::Error::from)?)?;
                    tracing::error!(%run, %error, "a queued run cannot be read and is not announced");
                }
            }
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

    fn runs(&mut self, query: &RunQuery) -> Result<Vec<RunHead>, StorageError> {
        listing::runs(&self.0, query)
    }

    fn count(&mut self, namespace: &Name, filter: &RunFilter) -> Result<u64, StorageError> {
        listing::count(&self.0, namespace, filter)
    }

    fn workflows(&mut self, namespace: &Name, of: Option<(Source, &Name)>) -> Result<Vec<WorkflowUse>, StorageError> {
        workflows::list(&self.0, namespace, of)
    }

    fn ended(
        &mut self,
        until: Timestamp,
        after: QueuedPlace,
        limit: usize,
    ) -> Result<Vec<(QueuedPlace, Name)>, StorageError> {
        listing::ended(&self.0, until, after, limit)
    }

    fn schedules(&mut self) -> &mut dyn ScheduleReads {
        self
    }
}
