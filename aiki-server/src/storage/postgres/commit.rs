//! The statements of a commit, of many rows each, sent one behind the other without waiting for answers.

use std::collections::HashMap;
use std::pin::Pin;

use aiki_core::Name;
use aiki_core::run::RunHead;
use futures::future::join_all;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Statement};

use super::columns::{Id, to_column, to_page};
use super::link::Session;
use super::schema::{KNOWN, LATEST};
use super::{describe, is_lost, workflows};
use crate::storage::{RunWrite, ScheduleWrite, StorageError, slot_key, wait, workflow_changes};

pub(super) type Column = Box<dyn ToSql + Sync + Send>;

/// A statement that is under way.
type Part<'a> = Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'a>>;

/// One statement with an array for each of its columns.
pub(super) struct Rows {
    pub(super) sql: &'static str,
    pub(super) columns: Vec<Column>,
}

/// All that a transaction writes.
pub(super) struct Batch(Vec<Rows>);

const INSERT: &str = "
    INSERT INTO runs (id, version, namespace, source, name, version_id, pool, reference_id, status, due_at, rank,
                      parent, slot_key, wait_limit, wait_rank, owner, held_since, pages, head, tail, schedule, ended_at)
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
                         $8::text[], $9::text[], $10::bigint[], $11::bigint[], $12::uuid[], $13::text[], $14::bigint[],
                         $15::bigint[], $16::text[], $17::bigint[], $18::integer[], $19::text[], $20::text[],
                         $21::uuid[], $22::bigint[])";

const UPDATE: &str = "
    WITH changed AS (
        UPDATE runs r SET version = w.version, status = w.status, due_at = w.due_at, rank = w.rank,
                          slot_key = w.slot_key, wait_limit = w.wait_limit, wait_rank = w.wait_rank, owner = w.owner,
                          held_since = w.held_since, pages = w.pages, head = w.head, tail = w.tail,
                          ended_at = w.ended_at
        FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[], $7::text[],
                    $8::bigint[], $9::bigint[], $10::text[], $11::bigint[], $12::integer[], $13::text[], $14::text[],
                    $15::bigint[])
             AS w (id, expected, version, status, due_at, rank, slot_key, wait_limit, wait_rank, owner, held_since,
                   pages, head, tail, ended_at)
        WHERE r.id = w.id AND r.version = w.expected
        RETURNING 1
    )
    SELECT fence((SELECT count(*) FROM changed), cardinality($1))";

const DELETE: &str = "
    WITH changed AS (
        DELETE FROM runs r USING unnest($1::uuid[], $2::bigint[]) AS w (id, expected)
        WHERE r.id = w.id AND r.version = w.expected
        RETURNING 1
    )
    SELECT fence((SELECT count(*) FROM changed), cardinality($1))";

const DELETE_PAGES: &str = "DELETE FROM history WHERE run = ANY($1::uuid[])";

const DELETE_MARKS: &str = "DELETE FROM marks WHERE run = ANY($1::uuid[])";

const INSERT_PAGES: &str = "
    INSERT INTO history (run, page, entries) SELECT * FROM unnest($1::uuid[], $2::integer[], $3::text[])";

const DROP_PAGES: &str = "
    DELETE FROM history h USING unnest($1::uuid[], $2::integer[]) AS w (run, below)
    WHERE h.run = w.run AND h.page < w.below";

const INSERT_MARKS: &str = "INSERT INTO marks (run, mark) SELECT * FROM unnest($1::uuid[], $2::text[])";

const INSERT_SCHEDULES: &str = "
    INSERT INTO schedules (id, version, namespace, definition_hash, reference_id, created_at, due_at, head, input)
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[],
                         $8::text[], $9::text[])";

const UPDATE_SCHEDULES: &str = "
    WITH changed AS (
        UPDATE schedules s SET version = w.version, definition_hash = w.definition_hash,
                               reference_id = w.reference_id, due_at = w.due_at, head = w.head
        FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::bigint[], $7::text[])
             AS w (id, expected, version, definition_hash, reference_id, due_at, head)
        WHERE s.id = w.id AND s.version = w.expected
        RETURNING 1
    )
    SELECT fence((SELECT count(*) FROM changed), cardinality($1))";

const FENCE_KEYS: &str = "
    WITH changed AS (
        INSERT INTO slot_keys AS k (namespace, key, version)
        SELECT w.namespace, w.key, w.expected + 1
        FROM unnest($1::text[], $2::text[], $3::bigint[]) AS w (namespace, key, expected)
        ON CONFLICT (namespace, key) DO UPDATE SET version = excluded.version, touched_at = now()
            WHERE k.version = excluded.version - 1
        RETURNING 1
    )
    SELECT fence((SELECT count(*) FROM changed), cardinality($1))";

const NOTIFY: &str = "SELECT pg_notify('aiki:' || current_schema(), $1)";

fn json(value: &impl serde::Serialize) -> Result<String, StorageError> {
    serde_json::to_string(value).map_err(|error| StorageError::Failed(error.to_string()))
}

/// Makes a column of the rows.
fn column<W, T>(writes: &[&W], of: impl Fn(&W) -> T) -> Column
where
    Vec<T>: ToSql + Sync + Send + 'static,
{
    Box::new(writes.iter().map(|write| of(write)).collect::<Vec<T>>())
}

impl Batch {
    pub(super) fn new(
        writes: &[RunWrite<'_>],
        schedules: &[ScheduleWrite<'_>],
        counted: HashMap<(String, String), i64>,
        note: Option<String>,
    ) -> Result<Self, StorageError> {
        let mut rows = vec![Rows { sql: KNOWN, columns: vec![Box::new(LATEST)] }];
        let changes = workflow_changes(writes, schedules);
        // In the order of their ids: two servers that write the same rows wait for each other, not crosswise.
        let mut writes: Vec<&RunWrite<'_>> = writes.iter().collect();
        writes.sort_unstable_by_key(|write| write.run.head.id);
        let (forgotten, writes): (Vec<_>, Vec<_>) = writes.into_iter().partition(|write| write.forget);
        let (updates, inserts): (Vec<_>, Vec<_>) = writes.iter().copied().partition(|write| write.expected.is_some());
        rows.extend(fence_keys(counted));
        if !forgotten.is_empty() {
            rows.extend(forget_runs(&forgotten));
        }
        if !updates.is_empty() {
            rows.push(update_runs(&updates)?);
        }
        if !inserts.is_empty() {
            rows.push(insert_runs(&inserts)?);
        }
        rows.extend(pages(&writes));
        let mut schedules: Vec<&ScheduleWrite<'_>> = schedules.iter().collect();
        schedules.sort_unstable_by_key(|write| write.schedule.record.id);
        let (updates, inserts): (Vec<_>, Vec<_>) = schedules.into_iter().partition(|write| write.expected.is_some());
        if !updates.is_empty() {
            rows.push(update_schedules(&updates)?);
        }
        if !inserts.is_empty() {
            rows.push(insert_schedules(&inserts)?);
        }
        // Last, because servers share these rows.
        rows.extend(workflows::writes(changes));
        rows.extend(note.map(|note| Rows { sql: NOTIFY, columns: vec![Box::new(note)] }));
        Ok(Self(rows))
    }

    /// The statements, prepared: round trips only the first time.
    pub(super) async fn prepare(&self, session: &mut Session) -> Result<Vec<Statement>, StorageError> {
        let mut statements = Vec::with_capacity(self.0.len());
        for rows in &self.0 {
            statements.push(session.prepare(rows.sql).await?);
        }
        Ok(statements)
    }

    /// Sends the transaction, up to its end, and then waits for the answers.
    pub(super) async fn send(
        &self,
        client: &Client,
        statements: &[Statement],
        begin: bool,
    ) -> Result<(), StorageError> {
        // Each is sent when it is first looked at, so in this order.
        let mut parts: Vec<Part<'_>> = Vec::new();
        if begin {
            parts.push(Box::pin(client.batch_execute("BEGIN")));
        }
        for (rows, statement) in self.0.iter().zip(statements) {
            parts.push(Box::pin(async move {
                let columns: Vec<&(dyn ToSql + Sync)> = rows.columns.iter().map(|column| &**column as _).collect();
                client.execute(statement, &columns).await.map(drop)
            }));
        }
        parts.push(Box::pin(client.batch_execute("COMMIT")));
        let last = parts.len() - 1;
        // Behind the first error the database does nothing but roll back.
        for (at, answer) in join_all(parts).await.into_iter().enumerate() {
            answer.map_err(|error| refused(error, at == last))?;
        }
        Ok(())
    }
}

/// What an error in the middle, or at the end, says of the whole transaction.
fn refused(error: Error, at_the_end: bool) -> StorageError {
    // A session that the database has ended before the commit has stored nothing. Where only the answer is missing,
    // nobody knows.
    match is_lost(&error) && (at_the_end || error.as_db_error().is_none()) {
        true => StorageError::Unknown(describe(&error)),
        false => error.into(),
    }
}

/// Rows go with all that belongs to them.
fn forget_runs(writes: &[&RunWrite<'_>]) -> [Rows; 3] {
    let ids = || column(writes, |write| Id::from(write.run.head.id));
    let expected = column(writes, |write| to_column(write.expected.unwrap_or_default()));
    [
        Rows { sql: DELETE, columns: vec![ids(), expected] },
        Rows { sql: DELETE_PAGES, columns: vec![ids()] },
        Rows { sql: DELETE_MARKS, columns: vec![ids()] },
    ]
}

fn insert_runs(writes: &[&RunWrite<'_>]) -> Result<Rows, StorageError> {
    let heads = writes.iter().map(|write| json(&write.run.head)).collect::<Result<Vec<_>, _>>()?;
    let text = |of: fn(&RunHead) -> &str| column(writes, |write| of(&write.run.head).to_owned());
    let columns: Vec<Column> = vec![
        column(writes, |write| Id::from(write.run.head.id)),
        column(writes, |write| to_column(write.run.version)),
        text(|head| head.namespace.as_str()),
        text(|head| head.workflow.source.as_str()),
        text(|head| head.workflow.name.as_str()),
        text(|head| head.workflow.version.as_str()),
        text(|head| head.pool().map_or("", Name::as_str)),
        column(writes, |write| write.run.head.reference_id.clone()),
        text(|head| head.state.status().as_str()),
        column(writes, |write| due(&write.run.head)),
        column(writes, |write| rank(&write.run.head)),
        column(writes, |write| write.run.head.parent.map(Id::from)),
        column(writes, |write| slot_key(&write.run.head).map(str::to_owned)),
        column(writes, |write| wait(&write.run.head).map(|wait| i64::from(wait.limit))),
        column(writes, |write| wait(&write.run.head).map(|wait| to_column(wait.rank.as_u64()))),
        column(writes, |write| owner(&write.run.head)),
        column(writes, |write| held_since(&write.run.head)),
        column(writes, |write| to_page(write.run.pages)),
        Box::new(heads),
        column(writes, |write| write.run.tail.clone()),
        column(writes, |write| write.run.head.schedule.map(Id::from)),
        column(writes, |write| ended(&write.run.head)),
    ];
    Ok(Rows { sql: INSERT, columns })
}

fn update_runs(writes: &[&RunWrite<'_>]) -> Result<Rows, StorageError> {
    let heads = writes.iter().map(|write| json(&write.run.head)).collect::<Result<Vec<_>, _>>()?;
    let columns: Vec<Column> = vec![
        column(writes, |write| Id::from(write.run.head.id)),
        column(writes, |write| to_column(write.expected.unwrap_or_default())),
        column(writes, |write| to_column(write.run.version)),
        column(writes, |write| write.run.head.state.status().as_str()),
        column(writes, |write| due(&write.run.head)),
        column(writes, |write| rank(&write.run.head)),
        column(writes, |write| slot_key(&write.run.head).map(str::to_owned)),
        column(writes, |write| wait(&write.run.head).map(|wait| i64::from(wait.limit))),
        column(writes, |write| wait(&write.run.head).map(|wait| to_column(wait.rank.as_u64()))),
        column(writes, |write| owner(&write.run.head)),
        column(writes, |write| held_since(&write.run.head)),
        column(writes, |write| to_page(write.run.pages)),
        Box::new(heads),
        column(writes, |write| write.run.tail.clone()),
        column(writes, |write| ended(&write.run.head)),
    ];
    Ok(Rows { sql: UPDATE, columns })
}

fn ended(head: &RunHead) -> Option<i64> {
    head.ended_at.map(|ended| to_column(ended.as_millis()))
}

fn due(head: &RunHead) -> Option<i64> {
    head.due_at().map(|due| to_column(due.as_millis()))
}

fn rank(head: &RunHead) -> Option<i64> {
    head.rank().map(|rank| to_column(rank.as_u64()))
}

fn owner(head: &RunHead) -> Option<String> {
    head.lease.as_ref().map(|lease| lease.owner.as_str().to_owned())
}

fn held_since(head: &RunHead) -> Option<i64> {
    head.lease.as_ref().map(|lease| to_column(lease.since.as_millis()))
}

/// Pages that left their rows, pages that go, and marks.
fn pages(writes: &[&RunWrite<'_>]) -> Vec<Rows> {
    let (mut runs, mut numbers, mut entries) = (Vec::new(), Vec::new(), Vec::new());
    let (mut dropping, mut below) = (Vec::new(), Vec::new());
    let (mut marked, mut marks) = (Vec::new(), Vec::new());
    for write in writes {
        let id = Id::from(write.run.head.id);
        let first = write.run.pages - write.spilled.len() as u32;
        for (page, spilled) in (first..).zip(write.spilled) {
            runs.push(id);
            numbers.push(to_page(page));
            entries.push(spilled.clone());
        }
        if let Some(page) = write.drop_pages_below {
            dropping.push(id);
            below.push(to_page(page));
        }
        for mark in write.marks {
            marked.push(id);
            marks.push(mark.clone());
        }
    }
    let mut rows = Vec::new();
    if !runs.is_empty() {
        rows.push(Rows { sql: INSERT_PAGES, columns: vec![Box::new(runs), Box::new(numbers), Box::new(entries)] });
    }
    if !dropping.is_empty() {
        rows.push(Rows { sql: DROP_PAGES, columns: vec![Box::new(dropping), Box::new(below)] });
    }
    if !marked.is_empty() {
        rows.push(Rows { sql: INSERT_MARKS, columns: vec![Box::new(marked), Box::new(marks)] });
    }
    rows
}

fn insert_schedules(writes: &[&ScheduleWrite<'_>]) -> Result<Rows, StorageError> {
    let heads = writes.iter().map(|write| json(&write.schedule.record)).collect::<Result<Vec<_>, _>>()?;
    let columns: Vec<Column> = vec![
        column(writes, |write| Id::from(write.schedule.record.id)),
        column(writes, |write| to_column(write.schedule.version)),
        column(writes, |write| write.schedule.record.namespace.as_str().to_owned()),
        column(writes, |write| write.schedule.record.definition_hash.as_str().to_owned()),
        column(writes, |write| write.schedule.record.reference_id.clone()),
        column(writes, |write| to_column(write.schedule.record.created_at.as_millis())),
        column(writes, |write| write.schedule.record.due_at().map(|due| to_column(due.as_millis()))),
        Box::new(heads),
        column(writes, |write| write.schedule.record.input.as_ref().map(|input| input.as_str().to_owned())),
    ];
    Ok(Rows { sql: INSERT_SCHEDULES, columns })
}

fn update_schedules(writes: &[&ScheduleWrite<'_>]) -> Result<Rows, StorageError> {
    let heads = writes.iter().map(|write| json(&write.schedule.record)).collect::<Result<Vec<_>, _>>()?;
    let columns: Vec<Column> = vec![
        column(writes, |write| Id::from(write.schedule.record.id)),
        column(writes, |write| to_column(write.expected.unwrap_or_default())),
        column(writes, |write| to_column(write.schedule.version)),
        column(writes, |write| write.schedule.record.definition_hash.as_str().to_owned()),
        column(writes, |write| write.schedule.record.reference_id.clone()),
        column(writes, |write| write.schedule.record.due_at().map(|due| to_column(due.as_millis()))),
        Box::new(heads),
    ];
    Ok(Rows { sql: UPDATE_SCHEDULES, columns })
}

fn fence_keys(counted: HashMap<(String, String), i64>) -> Option<Rows> {
    if counted.is_empty() {
        return None;
    }
    let mut counted: Vec<_> = counted.into_iter().collect();
    counted.sort_unstable();
    let (mut namespaces, mut keys, mut versions) = (Vec::new(), Vec::new(), Vec::new());
    for ((namespace, key), version) in counted {
        namespaces.push(namespace);
        keys.push(key);
        versions.push(version);
    }
    Some(Rows { sql: FENCE_KEYS, columns: vec![Box::new(namespaces), Box::new(keys), Box::new(versions)] })
}
