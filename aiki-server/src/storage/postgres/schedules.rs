//! The table of schedules.

use aiki_core::schedule::ScheduleRecord;
use aiki_core::{Payload, ScheduleId, Timestamp};
use tokio_postgres::Row;

use super::columns::{Id, to_column, to_number, to_timestamp};
use super::read::PostgresReads;
use crate::storage::{ScheduleKey, ScheduleQuery, ScheduleReads, StorageError, StoredSchedule};

type Damage = Box<dyn std::error::Error + Send + Sync>;

fn record(row: &Row) -> Result<ScheduleRecord, Damage> {
    Ok(serde_json::from_str(row.try_get(0)?)?)
}

fn input(row: &Row, column: usize) -> Result<Option<Payload>, Damage> {
    Ok(row.try_get::<_, Option<String>>(column)?.map(Payload::from_json).transpose()?)
}

fn stored(row: &Row) -> Result<StoredSchedule, Damage> {
    let record = ScheduleRecord { input: input(row, 1)?, ..record(row)? };
    Ok(StoredSchedule { record, version: to_number(row.try_get(2)?) })
}

impl ScheduleReads for PostgresReads {
    fn load(&mut self, id: ScheduleId) -> Result<Option<StoredSchedule>, StorageError> {
        let row = self.0.ask(async |session| {
            let select = session.prepare("SELECT head, input, version FROM schedules WHERE id = $1").await?;
            session.client.query_opt(&select, &[&Id::from(id)]).await
        })?;
        let damaged = |error: Damage| StorageError::Damaged(format!("schedule {id}: {error}"));
        row.map(|row| stored(&row).map_err(damaged)).transpose()
    }

    fn find(&mut self, key: &ScheduleKey) -> Result<Option<ScheduleId>, StorageError> {
        let (select, namespace, value) = match key {
            ScheduleKey::Definition(namespace, hash) => (
                "SELECT id FROM schedules WHERE namespace = $1 AND definition_hash = $2",
                namespace.as_str(),
                hash.as_str(),
            ),
            ScheduleKey::Reference(namespace, id) => {
                ("SELECT id FROM schedules WHERE namespace = $1 AND reference_id = $2", namespace.as_str(), &**id)
            }
        };
        self.0.ask(async |session| {
            let select = session.prepare(select).await?;
            let row = session.client.query_opt(&select, &[&namespace, &value]).await?;
            row.map(|row| Ok(row.try_get::<_, Id>(0)?.schedule())).transpose()
        })
    }

    fn list(&mut self, query: &ScheduleQuery) -> Result<(Vec<ScheduleRecord>, u64), StorageError> {
        let rows = self.0.ask(async |session| {
            let select = session
                .prepare("SELECT head, input, id FROM schedules WHERE namespace = $1 ORDER BY created_at, id")
                .await?;
            session.client.query(&select, &[&query.namespace.as_str()]).await
        })?;
        let (mut page, mut total) = (Vec::new(), 0);
        for row in &rows {
            let fitting = record(row).map(|record| query.filter.matches(&record).then_some(record));
            let asked_for = total >= query.offset as u64 && page.len() < query.limit;
            match fitting.and_then(|record| Ok((record, if asked_for { input(row, 1)? } else { None }))) {
                Ok((None, _)) => {}
                Ok((Some(record), input)) => {
                    total += 1;
                    page.extend(asked_for.then_some(ScheduleRecord { input, ..record }));
                }
                Err(error) => {
                    let schedule = row.try_get::<_, Id>(2)?.schedule();
                    tracing::error!(%schedule, %error, "a schedule cannot be read and is not listed");
                }
            }
        }
        Ok((page, total))
    }

    fn due(&mut self, now: Timestamp, limit: usize) -> Result<Vec<ScheduleId>, StorageError> {
        self.0.ask(async |session| {
            let select =
                session.prepare("SELECT id FROM schedules WHERE due_at <= $1 ORDER BY due_at, id LIMIT $2").await?;
            let key = (to_column(now.as_millis()), to_column(limit as u64));
            let rows = session.client.query(&select, &[&key.0, &key.1]).await?;
            rows.iter().map(|row| Ok(row.try_get::<_, Id>(0)?.schedule())).collect()
        })
    }

    fn next_due(&mut self, now: Timestamp) -> Result<Option<Timestamp>, StorageError> {
        self.0.ask(async |session| {
            let select =
                session.prepare("SELECT due_at FROM schedules WHERE due_at > $1 ORDER BY due_at LIMIT 1").await?;
            let row = session.client.query_opt(&select, &[&to_column(now.as_millis())]).await?;
            row.map(|row| Ok(to_timestamp(row.try_get(0)?))).transpose()
        })
    }

    fn last_id(&mut self) -> Result<Option<ScheduleId>, StorageError> {
        self.0.ask(async |session| {
            let select = session.prepare("SELECT id FROM schedules ORDER BY id DESC LIMIT 1").await?;
            let row = session.client.query_opt(&select, &[]).await?;
            row.map(|row| Ok(row.try_get::<_, Id>(0)?.schedule())).transpose()
        })
    }
}
