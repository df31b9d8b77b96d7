//! Lists of runs. The filter becomes SQL here; what it means is told by `RunFilter::matches`, and the differential test
//! holds the two together. Each list is read off an index in the order of ids.

use std::fmt::Write as _;

use aiki_core::listing::{RunFilter, RunOrder, RunPageRequest, StatusCounts, stats_of};
use aiki_core::run::{RunHead, RunStatus};
use aiki_core::{Name, Timestamp};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use super::{to_column, to_run_id, to_timestamp, workflows};
use crate::storage::{QueuedPlace, RunQuery, StorageError};

/// The way to the runs of a filter.
#[derive(Debug, PartialEq)]
enum Path {
    /// The counts say that there are none.
    Nowhere,
    /// The run itself.
    Id,
    Parent,
    Schedule,
    /// The reference id, in each workflow version of the namespace: the few runs are sorted.
    Reference,
    Workflow,
    /// One list per status, merged.
    Statuses,
}

/// Conditions and their values.
struct Select {
    conditions: String,
    values: Vec<Value>,
}

impl Select {
    fn and(&mut self, condition: &str, value: impl Into<Value>) {
        self.values.push(value.into());
        let and = if self.conditions.is_empty() { "" } else { " AND " };
        // Writing to a string does not fail.
        let _ = write!(self.conditions, "{and}{condition} ?{}", self.values.len());
    }

    fn value(&mut self, value: impl Into<Value>) -> usize {
        self.values.push(value.into());
        self.values.len()
    }
}

/// Everything that a filter says, except for the statuses.
fn select(namespace: &Name, filter: &RunFilter) -> Select {
    let mut select = Select { conditions: String::new(), values: Vec::new() };
    let text = |name: &Name| name.as_str().to_owned();
    select.and("runs.namespace =", text(namespace));
    if let Some(workflow) = &filter.workflow {
        select.and("runs.source =", workflow.source.as_str().to_owned());
        select.and("runs.name =", text(&workflow.name));
        workflow.version.iter().for_each(|version| select.and("runs.version_id =", text(version)));
    }
    filter.id.iter().for_each(|id| select.and("runs.id =", id.to_bytes().to_vec()));
    filter.reference_id.iter().for_each(|id| select.and("runs.reference_id =", id.clone()));
    filter.schedule.iter().for_each(|schedule| select.and("runs.schedule =", schedule.to_string()));
    filter.parent.iter().for_each(|parent| select.and("runs.parent =", parent.to_bytes().to_vec()));
    let (from, until) = filter.id_range();
    from.iter().for_each(|from| select.and("runs.id >=", from.to_bytes().to_vec()));
    until.iter().for_each(|until| select.and("runs.id <", until.to_bytes().to_vec()));
    select
}

fn counts(connection: &Connection, namespace: &Name, filter: &RunFilter) -> Result<[StatusCounts; 2], StorageError> {
    let rows = workflows::list(connection, namespace, None)?;
    Ok([stats_of(&rows, filter.workflow.as_ref()), stats_of(&rows, None)])
}

fn path(connection: &Connection, namespace: &Name, filter: &RunFilter) -> Result<Path, StorageError> {
    if filter.id.is_some() {
        return Ok(Path::Id);
    }
    if filter.reference_id.is_some() {
        return Ok(Path::Reference);
    }
    if filter.parent.is_some() {
        return Ok(Path::Parent);
    }
    if filter.schedule.is_some() {
        return Ok(Path::Schedule);
    }
    if filter.workflow.is_none() {
        return Ok(Path::Statuses);
    }
    if filter.statuses.is_empty() {
        return Ok(Path::Workflow);
    }
    // Both: whichever leads past fewer runs that do not fit.
    let [own, all] = counts(connection, namespace, filter)?;
    Ok(match () {
        () if own.of_any(&filter.statuses) == 0 => Path::Nowhere,
        () if own.total() <= all.of_any(&filter.statuses) => Path::Workflow,
        () => Path::Statuses,
    })
}

fn statuses(filter: &RunFilter) -> Vec<RunStatus> {
    let asked = |status: &RunStatus| filter.statuses.is_empty() || filter.statuses.contains(status);
    RunStatus::ALL.iter().copied().filter(asked).collect()
}

/// `runs.status IN (..)`, when some are asked for.
fn status_condition(filter: &RunFilter) -> String {
    if filter.statuses.is_empty() {
        return String::new();
    }
    let names: Vec<String> = statuses(filter).iter().map(|status| format!("'{status}'")).collect();
    format!(" AND runs.status IN ({})", names.join(", "))
}

fn tables(path: &Path) -> &'static str {
    match path {
        Path::Nowhere | Path::Id => "runs",
        Path::Parent => "runs INDEXED BY runs_parent",
        Path::Schedule => "runs INDEXED BY runs_schedule",
        Path::Reference => {
            "workflows CROSS JOIN runs INDEXED BY runs_reference ON runs.namespace = workflows.namespace
             AND runs.source = workflows.source AND runs.name = workflows.name
             AND runs.version_id = workflows.version_id"
        }
        Path::Workflow => "runs INDEXED BY runs_workflow",
        Path::Statuses => "runs INDEXED BY runs_status",
    }
}

/// Conditions that only the way asks for.
fn by_the_way(path: &Path, filter: &RunFilter) -> &'static str {
    match (path, &filter.workflow) {
        (Path::Reference, None) => " AND workflows.namespace = ?1",
        (Path::Reference, Some(_)) => " AND workflows.namespace = ?1 AND workflows.source = ?2 AND workflows.name = ?3",
        _ => "",
    }
}

/// The statement of a page, without its limit: that one counts what can be read.
fn page_statement(path: &Path, query: &RunQuery) -> (String, Vec<Value>) {
    let RunPageRequest { order, after, offset, limit: _ } = query.page;
    let mut select = select(&query.namespace, &query.filter);
    let (behind, direction) = match order {
        RunOrder::NewestFirst => ("runs.id <", "DESC"),
        RunOrder::OldestFirst => ("runs.id >", "ASC"),
    };
    after.iter().for_each(|after| select.and(behind, after.to_bytes().to_vec()));
    let offset = select.value(to_column(offset as u64));
    let head = |status: &str| {
        let (tables, way, conditions) = (tables(path), by_the_way(path, &query.filter), &select.conditions);
        format!("SELECT runs.head, runs.id AS id FROM {tables} WHERE {conditions}{way}{status}")
    };
    let mut sql = match path {
        Path::Statuses => {
            let one = |status: &RunStatus| head(&format!(" AND runs.status = '{status}'"));
            statuses(&query.filter).iter().map(one).collect::<Vec<_>>().join(" UNION ALL ")
        }
        _ => head(&status_condition(&query.filter)),
    };
    let _ = write!(sql, " ORDER BY id {direction} LIMIT -1 OFFSET ?{offset}");
    (sql, select.values)
}

fn read_head(row: &Row<'_>) -> Result<RunHead, Box<dyn std::error::Error>> {
    Ok(serde_json::from_str(row.get_ref(0)?.as_str()?)?)
}

pub(super) fn runs(connection: &Connection, query: &RunQuery) -> Result<Vec<RunHead>, StorageError> {
    let mut heads = Vec::new();
    let path = path(connection, &query.namespace, &query.filter)?;
    if path == Path::Nowhere {
        return Ok(heads);
    }
    let (sql, values) = page_statement(&path, query);
    let mut select = connection.prepare_cached(&sql)?;
    let mut rows = select.query(params_from_iter(values))?;
    while heads.len() < query.page.limit
        && let Some(row) = rows.next()?
    {
        match read_head(row) {
            Ok(head) => heads.push(head),
            Err(error) => {
                let run = to_run_id(row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?)?;
                tracing::error!(%run, %error, "a run cannot be read and is not listed");
            }
        }
    }
    Ok(heads)
}

pub(super) fn count(connection: &Connection, namespace: &Name, filter: &RunFilter) -> Result<u64, StorageError> {
    if filter.is_counted() {
        return Ok(counts(connection, namespace, filter)?[0].of_any(&filter.statuses));
    }
    let path = path(connection, namespace, filter)?;
    if path == Path::Nowhere {
        return Ok(0);
    }
    let (sql, values) = count_statement(&path, namespace, filter);
    let found: Option<i64> =
        connection.prepare_cached(&sql)?.query_row(params_from_iter(values), |row| row.get(0)).optional()?;
    Ok(found.and_then(|count| u64::try_from(count).ok()).unwrap_or(0))
}

fn count_statement(path: &Path, namespace: &Name, filter: &RunFilter) -> (String, Vec<Value>) {
    let Select { conditions, values } = select(namespace, filter);
    let status = match (path, filter.statuses.is_empty()) {
        // The index begins with them.
        (Path::Statuses, true) => {
            status_condition(&RunFilter { statuses: RunStatus::ALL.to_vec(), ..Default::default() })
        }
        _ => status_condition(filter),
    };
    let (tables, way) = (tables(path), by_the_way(path, filter));
    (format!("SELECT count(*) FROM {tables} WHERE {conditions}{way}{status}"), values)
}

pub(super) fn ended(
    connection: &Connection,
    until: Timestamp,
    after: QueuedPlace,
    limit: usize,
) -> Result<Vec<(QueuedPlace, Name)>, StorageError> {
    let mut select = connection.prepare_cached(
        "SELECT ended_at, id, namespace FROM runs INDEXED BY runs_ended
         WHERE ended_at IS NOT NULL AND ended_at <= ?1 AND (ended_at, id) > (?2, ?3) ORDER BY ended_at, id LIMIT ?4",
    )?;
    let (since, id) = (to_column(after.0.as_millis()), after.1.to_bytes());
    let mut rows = select.query(params![to_column(until.as_millis()), since, id, to_column(limit as u64)])?;
    let mut ended = Vec::new();
    while let Some(row) = rows.next()? {
        let id: Vec<u8> = row.get(1)?;
        ended.push(((to_timestamp(row.get(0)?), to_run_id(&id)?), Name::new(row.get::<_, String>(2)?)));
    }
    Ok(ended)
}

#[cfg(test)]
mod tests {
    use aiki_core::listing::WorkflowFilter;
    use aiki_core::{RunId, ScheduleId};

    use super::*;

    fn plan(sql: &str, values: Vec<Value>) -> String {
        let mut database = Connection::open_in_memory().unwrap();
        assert!(super::super::schema::migrate(&mut database).is_ok());
        let mut explain = database.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let lines = explain.query_map(params_from_iter(values), |row| row.get::<_, String>(3)).unwrap();
        lines.map(Result::unwrap).collect::<Vec<_>>().join("\n")
    }

    fn filters() -> Vec<(Path, RunFilter)> {
        let with = RunFilter::default;
        let created = RunFilter {
            created_from: Some(Timestamp::from_millis(5)),
            created_until: Some(Timestamp::from_millis(9)),
            ..with()
        };
        let failed = RunFilter { statuses: vec![RunStatus::Failed, RunStatus::Running], ..with() };
        let workflow = RunFilter { workflow: Some(WorkflowFilter::named("orders")), ..with() };
        vec![
            (Path::Statuses, with()),
            (Path::Statuses, created),
            (Path::Statuses, failed.clone()),
            (Path::Workflow, workflow.clone()),
            (Path::Workflow, RunFilter { statuses: failed.statuses, ..workflow.clone() }),
            (Path::Parent, RunFilter { parent: Some(RunId::from_bits(1)), ..with() }),
            (Path::Schedule, RunFilter { schedule: Some(ScheduleId::from_bits(1)), ..workflow.clone() }),
            (Path::Id, RunFilter { id: Some(RunId::from_bits(1)), ..with() }),
            (Path::Reference, RunFilter { reference_id: Some("r".into()), ..workflow }),
            (Path::Reference, RunFilter { reference_id: Some("r".into()), ..with() }),
        ]
    }

    #[test]
    fn no_page_reads_runs_that_it_does_not_show() {
        for (path, filter) in filters() {
            for (order, after) in [(RunOrder::NewestFirst, None), (RunOrder::OldestFirst, Some(RunId::from_bits(7)))] {
                let page = RunPageRequest { order, after, ..RunPageRequest::default() };
                let query = RunQuery { namespace: Name::new("n"), filter: filter.clone(), page };
                let (sql, values) = page_statement(&path, &query);
                let plan = plan(&sql, values);
                assert!(!plan.contains("SCAN"), "{filter:?}:\n{sql}\n{plan}");
                // The few runs of one reference id are sorted; nothing else is.
                assert_eq!(plan.contains("TEMP B-TREE"), path == Path::Reference, "{filter:?}:\n{sql}\n{plan}");
            }
        }
    }

    #[test]
    fn no_count_reads_every_run() {
        for (path, filter) in filters() {
            let (sql, values) = count_statement(&path, &Name::new("n"), &filter);
            let plan = plan(&sql, values);
            assert!(!plan.contains("SCAN"), "{filter:?}:\n{sql}\n{plan}");
        }
    }
}
