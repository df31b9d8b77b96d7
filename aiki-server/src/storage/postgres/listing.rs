//! Lists of runs. The filter becomes SQL here; what it means is told by `RunFilter::matches`, and the differential test
//! holds the two together.

use std::fmt::Write as _;

use aiki_core::listing::{RunFilter, RunOrder, RunPageRequest, stats_of};
use aiki_core::run::{RunHead, RunStatus};
use aiki_core::{Name, RunId, Timestamp};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, Row};

use super::columns::{Id, to_column, to_timestamp};
use super::read::PostgresReads;
use super::workflows;
use crate::storage::{QueuedPlace, RunQuery, StorageError};

type Value = Box<dyn ToSql + Sync + Send>;

/// Conditions and their values.
struct Select {
    conditions: String,
    values: Vec<(Value, Type)>,
}

impl Select {
    fn value(&mut self, value: impl ToSql + Sync + Send + 'static, of: Type) -> usize {
        self.values.push((Box::new(value), of));
        self.values.len()
    }

    fn and(&mut self, condition: &str, value: impl ToSql + Sync + Send + 'static, of: Type) {
        let place = self.value(value, of);
        let and = if self.conditions.is_empty() { "" } else { " AND " };
        // Writing to a string does not fail.
        let _ = write!(self.conditions, "{and}{condition} ${place}");
    }

    fn text(&mut self, condition: &str, value: &str) {
        self.and(condition, value.to_owned(), Type::TEXT);
    }

    fn id(&mut self, condition: &str, id: RunId) {
        self.and(condition, Id::from(id), Type::UUID);
    }

    /// By way of the workflows, of which there are few: the index of references begins with them. The namespace is not
    /// said once more, or indexes that begin with it would look as good to a database that knows nothing of its rows.
    fn reference(&mut self, namespace: &Name, id: &str) {
        let namespace = self.value(namespace.as_str().to_owned(), Type::TEXT);
        let id = self.value(id.to_owned(), Type::TEXT);
        let _ = write!(
            self.conditions,
            "runs.reference_id IS NOT NULL
             AND ARRAY[runs.namespace, runs.source, runs.name, runs.version_id, runs.reference_id] IN (
                 SELECT ARRAY[w.namespace, w.source, w.name, w.version_id, ${id}]
                 FROM workflows w WHERE w.namespace = ${namespace}
             )"
        );
    }

    async fn ask(&self, session: &super::link::Session, sql: &str) -> Result<Vec<Row>, Error> {
        let values: Vec<(&(dyn ToSql + Sync), Type)> =
            self.values.iter().map(|(value, of)| (&**value as _, of.clone())).collect();
        session.client.query_typed(sql, &values).await
    }
}

/// Everything that a filter says, except for the statuses.
fn select(namespace: &Name, filter: &RunFilter) -> Select {
    let mut select = Select { conditions: String::new(), values: Vec::new() };
    match &filter.reference_id {
        Some(id) => select.reference(namespace, id),
        None => select.text("runs.namespace =", namespace.as_str()),
    }
    if let Some(workflow) = &filter.workflow {
        select.text("runs.source =", workflow.source.as_str());
        select.text("runs.name =", workflow.name.as_str());
        workflow.version.iter().for_each(|version| select.text("runs.version_id =", version.as_str()));
    }
    filter.id.iter().for_each(|id| select.id("runs.id =", *id));
    filter.schedule.iter().for_each(|schedule| select.and("runs.schedule =", Id::from(*schedule), Type::UUID));
    filter.parent.iter().for_each(|parent| select.id("runs.parent =", *parent));
    let (from, until) = filter.id_range();
    from.iter().for_each(|from| select.id("runs.id >=", *from));
    until.iter().for_each(|until| select.id("runs.id <", *until));
    select
}

fn statuses(filter: &RunFilter) -> Vec<&'static str> {
    let asked = |status: &&RunStatus| filter.statuses.is_empty() || filter.statuses.contains(status);
    RunStatus::ALL.iter().filter(asked).map(|status| status.as_str()).collect()
}

/// Whether the runs are best read off the lists of each status, merged: nothing else narrows them down.
fn by_status(filter: &RunFilter) -> bool {
    filter.id.is_none()
        && filter.reference_id.is_none()
        && filter.schedule.is_none()
        && filter.parent.is_none()
        && filter.workflow.is_none()
}

fn page(query: &RunQuery, limit: usize) -> (String, Select) {
    let RunPageRequest { order, after, offset, limit: _ } = query.page;
    let mut select = select(&query.namespace, &query.filter);
    let (behind, direction) = match order {
        RunOrder::NewestFirst => ("runs.id <", "DESC"),
        RunOrder::OldestFirst => ("runs.id >", "ASC"),
    };
    after.iter().for_each(|after| select.id(behind, *after));
    let statuses = select.value(statuses(&query.filter), Type::TEXT_ARRAY);
    let take = select.value(to_column(limit as u64), Type::INT8);
    let skip = select.value(to_column(offset as u64), Type::INT8);
    let conditions = &select.conditions;
    let sql = match by_status(&query.filter) {
        true => format!(
            "SELECT r.head, r.id FROM unnest(${statuses}::text[]) AS s (status) CROSS JOIN LATERAL (
                 SELECT head, id FROM runs WHERE {conditions} AND runs.status = s.status
                 ORDER BY id {direction} LIMIT ${take} + ${skip}
             ) AS r ORDER BY r.id {direction} LIMIT ${take} OFFSET ${skip}"
        ),
        false => format!(
            "SELECT head, id FROM runs WHERE {conditions} AND runs.status = ANY(${statuses}::text[])
             ORDER BY id {direction} LIMIT ${take} OFFSET ${skip}"
        ),
    };
    (sql, select)
}

impl PostgresReads {
    pub(super) fn list_runs(&mut self, query: &RunQuery) -> Result<Vec<RunHead>, StorageError> {
        let (mut heads, mut query) = (Vec::new(), query.clone());
        // Rows that cannot be read are not the end of the list.
        loop {
            let missing = query.page.limit - heads.len();
            let (sql, select) = page(&query, missing);
            let rows = self.0.ask(async |session| select.ask(session, &sql).await)?;
            for row in &rows {
                let id = row.try_get::<_, Id>(1)?.run();
                (query.page.after, query.page.offset) = (Some(id), 0);
                match serde_json::from_str(row.try_get(0)?) {
                    Ok(head) => heads.push(head),
                    Err(error) => tracing::error!(run = %id, %error, "a run cannot be read and is not listed"),
                }
            }
            if rows.len() < missing || heads.len() >= query.page.limit {
                return Ok(heads);
            }
        }
    }

    pub(super) fn count_runs(&mut self, namespace: &Name, filter: &RunFilter) -> Result<u64, StorageError> {
        if filter.is_counted() {
            let rows = workflows::list(&mut self.0, namespace, None)?;
            return Ok(stats_of(&rows, filter.workflow.as_ref()).of_any(&filter.statuses));
        }
        let mut select = select(namespace, filter);
        let statuses = select.value(statuses(filter), Type::TEXT_ARRAY);
        let conditions = &select.conditions;
        let sql = format!("SELECT count(*) FROM runs WHERE {conditions} AND runs.status = ANY(${statuses}::text[])");
        let rows = self.0.ask(async |session| select.ask(session, &sql).await)?;
        let count: Option<i64> = rows.first().map(|row| row.try_get(0)).transpose()?;
        Ok(count.and_then(|count| u64::try_from(count).ok()).unwrap_or(0))
    }

    pub(super) fn list_ended(
        &mut self,
        until: Timestamp,
        after: QueuedPlace,
        limit: usize,
    ) -> Result<Vec<(QueuedPlace, Name)>, StorageError> {
        self.0.ask(async |session| {
            let select = session
                .prepare(
                    "SELECT ended_at, id, namespace FROM runs
                     WHERE ended_at IS NOT NULL AND ended_at <= $1 AND (ended_at, id) > ($2, $3::uuid)
                     ORDER BY ended_at, id LIMIT $4",
                )
                .await?;
            let (until, since) = (to_column(until.as_millis()), to_column(after.0.as_millis()));
            let (id, limit) = (Id::from(after.1), to_column(limit as u64));
            let rows = session.client.query(&select, &[&until, &since, &id, &limit]).await?;
            let ended = |row: &Row| {
                let place = (to_timestamp(row.try_get(0)?), row.try_get::<_, Id>(1)?.run());
                Ok((place, Name::new(row.try_get::<_, String>(2)?)))
            };
            rows.iter().map(ended).collect()
        })
    }
}
