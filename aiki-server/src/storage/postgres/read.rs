//! Questions to the database.

use std::collections::HashMap;

use aiki_core::listing::{RunFilter, WorkflowUse};
use aiki_core::name::Source;
use aiki_core::run::RunHead;
use aiki_core::{Name, ReadyRun, RunId, Timestamp};
use tokio_postgres::{Error, Row};

use super::columns::{Id, to_column, to_number, to_page, to_timestamp};
use super::link::{Link, Session};
use crate::storage::{
    Holder, LoadedRow, QueuedPlace, Reads, ReferenceKey, RunQuery, ScheduleReads, StorageError, StoredRun, ready_run,
};

/// Rows of queued runs that are read at a time.
const QUEUED_ROWS: usize = 512;

/// A connection that reads.
pub(super) struct PostgresReads(pub(super) Link);

/// Reads `head, tail, pages, version` from a row; the error says what is wrong with it.
fn stored_run(row: &Row) -> Result<StoredRun, Box<dyn std::error::Error + Send + Sync>> {
    Ok(StoredRun {
        head: serde_json::from_str(row.try_get(0)?)?,
        tail: row.try_get(1)?,
        pages: u32::try_from(row.try_get::<_, i32>(2)?)?,
        version: to_number(row.try_get(3)?),
    })
}

async fn load(session: &mut Session, ids: &[RunId]) -> Result<Vec<LoadedRow>, Error> {
    let select = session.prepare("SELECT head, tail, pages, version, id FROM runs WHERE id = ANY($1::uuid[])").await?;
    let wanted: Vec<Id> = ids.iter().map(|id| (*id).into()).collect();
    let mut found = HashMap::with_capacity(ids.len());
    for row in session.client.query(&select, &[&wanted]).await? {
        let id = row.try_get::<_, Id>(4)?.run();
        let run = stored_run(&row).map(Some);
        found.insert(id, run.map_err(|error| StorageError::Damaged(format!("run {id}: {error}"))));
    }
    Ok(ids.iter().map(|id| found.get(id).cloned().unwrap_or(Ok(None))).collect())
}

async fn by_reference(session: &mut Session, keys: &[ReferenceKey]) -> Result<Vec<Option<RunId>>, Error> {
    let select = session
        .prepare(
            "SELECT k.place, r.id
             FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) WITH ORDINALITY
                  AS k (namespace, source, name, version_id, reference_id, place)
             JOIN runs r ON ARRAY[r.namespace, r.source, r.name, r.version_id, r.reference_id]
                  = ARRAY[k.namespace, k.source, k.name, k.version_id, k.reference_id]
             WHERE r.reference_id IS NOT NULL",
        )
        .await?;
    let column = |of: fn(&ReferenceKey) -> &str| keys.iter().map(of).collect::<Vec<_>>();
    let (namespace, source) = (column(|key| key.namespace.as_str()), column(|key| key.workflow.source.as_str()));
    let (name, version) = (column(|key| key.workflow.name.as_str()), column(|key| key.workflow.version.as_str()));
    let reference = column(|key| &key.reference_id);
    let mut found = vec![None; keys.len()];
    for row in session.client.query(&select, &[&namespace, &source, &name, &version, &reference]).await? {
        let place = usize::try_from(row.try_get::<_, i64>(0)? - 1).unwrap_or(usize::MAX);
        if let Some(found) = found.get_mut(place) {
            *found = Some(row.try_get::<_, Id>(1)?.run());
        }
    }
    Ok(found)
}

impl PostgresReads {
    fn queued_page(&mut self, after: QueuedPlace) -> Result<Vec<Row>, StorageError> {
        self.0.ask(async |session| {
            let select = session
                .prepare(
                    "SELECT head, tail, pages, version, due_at, id FROM runs
                     WHERE due_at IS NOT NULL AND (due_at, id) > ($1, $2::uuid) AND rank IS NOT NULL
                     ORDER BY due_at, id LIMIT $3",
                )
                .await?;
            let key = (to_column(after.0.as_millis()), Id::from(after.1), QUEUED_ROWS as i64);
            session.client.query(&select, &[&key.0, &key.1, &key.2]).await
        })
    }
}

impl Reads for PostgresReads {
    fn load(&mut self, ids: &[RunId]) -> Result<Vec<LoadedRow>, StorageError> {
        self.0.ask(async |session| load(session, ids).await)
    }

    fn by_reference(&mut self, keys: &[ReferenceKey]) -> Result<Vec<Option<RunId>>, StorageError> {
        self.0.ask(async |session| by_reference(session, keys).await)
    }

    fn pages(&mut self, id: RunId, first: u32, end: u32) -> Result<Vec<String>, StorageError> {
        self.0.ask(async |session| {
            let select = session
                .prepare("SELECT entries FROM history WHERE run = $1 AND page >= $2 AND page < $3 ORDER BY page")
                .await?;
            let rows = session.client.query(&select, &[&Id::from(id), &to_page(first), &to_page(end)]).await?;
            rows.iter().map(|row| row.try_get(0)).collect()
        })
    }

    fn children(&mut self, parent: RunId, limit: usize) -> Result<Vec<RunId>, StorageError> {
        self.0.ask(async |session| {
            // Its bounds, not `=`: see `listing::along`.
            let select = "SELECT id FROM runs WHERE parent >= $1 AND parent <= $1 ORDER BY parent, id LIMIT $2";
            let select = session.prepare(select).await?;
            let rows = session.client.query(&select, &[&Id::from(parent), &to_column(limit as u64)]).await?;
            rows.iter().map(|row| Ok(row.try_get::<_, Id>(0)?.run())).collect()
        })
    }

    fn is_marked(&mut self, id: RunId, mark: &str) -> Result<bool, StorageError> {
        self.0.ask(async |session| {
            let select = session.prepare("SELECT EXISTS (SELECT 1 FROM marks WHERE run = $1 AND mark = $2)").await?;
            session.client.query_one(&select, &[&Id::from(id), &mark]).await?.try_get(0)
        })
    }

    fn queued(&mut self, mut after: QueuedPlace, limit: usize) -> Result<Vec<(QueuedPlace, ReadyRun)>, StorageError> {
        let mut queued = Vec::new();
        // Rows that cannot be read must not look like the end of the list.
        loop {
            let rows = self.queued_page(after)?;
            let full = rows.len() == QUEUED_ROWS;
            for row in rows {
                let failed = |error: Error| StorageError::from(error);
                after = (to_timestamp(row.try_get(4).map_err(failed)?), row.try_get::<_, Id>(5).map_err(failed)?.run());
                match stored_run(&row) {
                    Ok(StoredRun { head, .. }) => queued.push((after, ready_run(&head))),
                    Err(error) => {
                        let run = after.1;
                        tracing::error!(%run, %error, "a queued run cannot be read and is not announced");
                    }
                }
                if queued.len() == limit {
                    return Ok(queued);
                }
            }
            if !full {
                return Ok(queued);
            }
        }
    }

    fn held(&mut self, after: QueuedPlace, limit: usize) -> Result<Vec<(QueuedPlace, Name)>, StorageError> {
        self.0.ask(async |session| {
            let select = session
                .prepare(
                    "SELECT due_at, id, namespace FROM runs
                     WHERE due_at IS NOT NULL AND (due_at, id) > ($1, $2::uuid) AND status = 'running'
                     ORDER BY due_at, id LIMIT $3",
                )
                .await?;
            let key = (to_column(after.0.as_millis()), Id::from(after.1), to_column(limit as u64));
            let rows = session.client.query(&select, &[&key.0, &key.1, &key.2]).await?;
            let held = |row: &Row| {
                let place = (to_timestamp(row.try_get(0)?), row.try_get::<_, Id>(1)?.run());
                Ok((place, Name::new(row.try_get::<_, String>(2)?)))
            };
            rows.iter().map(held).collect()
        })
    }

    fn holders(&mut self, namespace: &Name, limit: usize) -> Result<Vec<Holder>, StorageError> {
        self.0.ask(async |session| {
            let select = session
                .prepare(
                    "SELECT owner, id, held_since FROM runs
                     WHERE namespace = $1 AND owner IS NOT NULL ORDER BY owner, id LIMIT $2",
                )
                .await?;
            let rows = session.client.query(&select, &[&namespace.as_str(), &to_column(limit as u64)]).await?;
            let holder = |row: &Row| {
                let since = row.try_get::<_, Option<i64>>(2)?.map_or(Timestamp::EPOCH, to_timestamp);
                Ok((Name::new(row.try_get::<_, String>(0)?), row.try_get::<_, Id>(1)?.run(), since))
            };
            rows.iter().map(holder).collect()
        })
    }

    fn runs(&mut self, query: &RunQuery) -> Result<Vec<RunHead>, StorageError> {
        self.list_runs(query)
    }

    fn count(&mut self, namespace: &Name, filter: &RunFilter) -> Result<u64, StorageError> {
        self.count_runs(namespace, filter)
    }

    fn workflows(&mut self, namespace: &Name, of: Option<(Source, &Name)>) -> Result<Vec<WorkflowUse>, StorageError> {
        super::workflows::list(&mut self.0, namespace, of)
    }

    fn ended(
        &mut self,
        until: Timestamp,
        after: QueuedPlace,
        limit: usize,
    ) -> Result<Vec<(QueuedPlace, Name)>, StorageError> {
        self.list_ended(until, after, limit)
    }

    fn schedules(&mut self) -> &mut dyn ScheduleReads {
        self
    }
}
