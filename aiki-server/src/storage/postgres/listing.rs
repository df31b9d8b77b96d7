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

/// Everything that a filter says, except for the statuses, ids and what `way` names: that is left to [`Select::along`].
fn select(namespace: &Name, filter: &RunFilter, way: Way) -> Select {
    let mut select = Select { conditions: String::new(), values: Vec::new() };
    match &filter.reference_id {
        Some(id) => select.reference(namespace, id),
        None => select.text("runs.namespace =", namespace.as_str()),
    }
    if let Some(workflow) = &filter.workflow {
        select.text("runs.source =", workflow.source.as_str());
        if way != Way::Workflow {
            select.text("runs.name =", workflow.name.as_str());
        }
        workflow.version.iter().for_each(|version| select.text("runs.version_id =", version.as_str()));
    }
    filter.id.iter().for_each(|id| select.id("runs.id =", *id));
    if way != Way::Schedule {
        filter.schedule.iter().for_each(|schedule| select.and("runs.schedule =", Id::from(*schedule), Type::UUID));
    }
    if way != Way::Parent {
        filter.parent.iter().for_each(|parent| select.id("runs.parent =", *parent));
    }
    select
}

fn statuses(filter: &RunFilter) -> Vec<&'static str> {
    let asked = |status: &&RunStatus| filter.statuses.is_empty() || filter.statuses.contains(status);
    RunStatus::ALL.iter().filter(asked).map(|status| status.as_str()).collect()
}

/// The index by which runs are read in the order of their ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// There are few of them.
    Any,
    Schedule,
    Parent,
    Workflow,
    /// Off the lists of each status, merged.
    Status,
}

impl Way {
    fn of(filter: &RunFilter) -> Self {
        match filter {
            RunFilter { id: Some(_), .. } | RunFilter { reference_id: Some(_), .. } => Way::Any,
            RunFilter { schedule: Some(_), .. } => Way::Schedule,
            RunFilter { parent: Some(_), .. } => Way::Parent,
            RunFilter { workflow: Some(_), .. } => Way::Workflow,
            _ => Way::Status,
        }
    }

    /// The column of the index before the id.
    fn column(self) -> Option<&'static str> {
        match self {
            Way::Any => None,
            Way::Schedule => Some("runs.schedule"),
            Way::Parent => Some("runs.parent"),
            Way::Workflow => Some("runs.name"),
            Way::Status => Some("runs.status"),
        }
    }
}

/// Ids that a page stays between, as an operator and an id.
fn bounds(filter: &RunFilter, page: &RunPageRequest) -> Vec<(&'static str, RunId)> {
    let (from, until) = filter.id_range();
    let behind = match page.order {
        RunOrder::NewestFirst => "<",
        RunOrder::OldestFirst => ">",
    };
    let after = page.after.map(|after| (behind, after));
    from.map(|from| (">=", from)).into_iter().chain(until.map(|until| ("<", until))).chain(after).collect()
}

impl Select {
    /// Says that `column` is `value` by its bounds, together with the ids. Said with `=`, the order by id alone would do,
    /// and statistics could make the whole table in the order of its key look like the best way to a page.
    fn along(&mut self, column: &str, value: &str, bounds: &[(&'static str, RunId)]) {
        for (side, closed) in [('<', "<="), ('>', ">=")] {
            let mut bounded = false;
            for (operator, id) in bounds.iter().filter(|(operator, _)| operator.starts_with(side)) {
                let id = self.value(Id::from(*id), Type::UUID);
                let _ = write!(self.conditions, " AND ({column}, runs.id) {operator} ({value}, ${id})");
                bounded = true;
            }
            if !bounded {
                let _ = write!(self.conditions, " AND {column} {closed} {value}");
            }
        }
    }
}

fn page(query: &RunQuery, limit: usize) -> (String, Select) {
    let RunQuery { namespace, filter, page } = query;
    let way = Way::of(filter);
    let mut select = select(namespace, filter, way);
    let bounds = bounds(filter, page);
    let direction = match page.order {
        RunOrder::NewestFirst => "DESC",
        RunOrder::OldestFirst => "ASC",
    };
    match (way, &filter.schedule, &filter.parent, &filter.workflow) {
        (Way::Schedule, Some(schedule), ..) => {
            let value = select.value(Id::from(*schedule), Type::UUID);
            select.along("runs.schedule", &format!("${value}"), &bounds);
        }
        (Way::Parent, _, Some(parent), _) => {
            let value = select.value(Id::from(*parent), Type::UUID);
            select.along("runs.parent", &format!("${value}"), &bounds);
        }
        (Way::Workflow, _, _, Some(workflow)) => {
            let value = select.value(workflow.name.as_str().to_owned(), Type::TEXT);
            select.along("runs.name", &format!("${value}"), &bounds);
        }
        (Way::Status, ..) => select.along("runs.status", "s.status", &bounds),
        _ => bounds.iter().for_each(|(operator, id)| select.id(&format!("runs.id {operator}"), *id)),
    }
    let statuses = select.value(statuses(filter), Type::TEXT_ARRAY);
    let take = select.value(to_column(limit as u64), Type::INT8);
    let skip = select.value(to_column(page.offset as u64), Type::INT8);
    let conditions = &select.conditions;
    let order = match way.column() {
        Some(column) => format!("{column} {direction}, runs.id {direction}"),
        None => format!("runs.id {direction}"),
    };
    let sql = match way {
        Way::Status => format!(
            "SELECT r.head, r.id FROM unnest(${statuses}::text[]) AS s (status) CROSS JOIN LATERAL (
                 SELECT head, id FROM runs WHERE {conditions} ORDER BY {order} LIMIT ${take} + ${skip}
             ) AS r ORDER BY r.id {direction} LIMIT ${take} OFFSET ${skip}"
        ),
        _ => format!(
            "SELECT head, id FROM runs WHERE {conditions} AND runs.status = ANY(${statuses}::text[])
             ORDER BY {order} LIMIT ${take} OFFSET ${skip}"
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
        let mut select = select(namespace, filter, Way::Any);
        let (from, until) = filter.id_range();
        from.iter().for_each(|from| select.id("runs.id >=", *from));
        until.iter().for_each(|until| select.id("runs.id <", *until));
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
