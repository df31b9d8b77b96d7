//! The tables of workflow versions and of their runs by status: small, so that statistics read no runs.

use std::collections::BTreeMap;

use aiki_core::Name;
use aiki_core::listing::{StatusCounts, WorkflowUse};
use aiki_core::name::{Source, WorkflowKey};
use aiki_core::run::RunStatus;
use tokio_postgres::{Error, Row};

use super::columns::{Id, to_column, to_timestamp};
use super::commit::{Column, Rows};
use super::link::Link;
use crate::storage::{StorageError, WorkflowChange};

const USE: &str = "
    INSERT INTO workflows AS w (namespace, source, name, version_id, first_seen_at, last_run)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::uuid[])
    ON CONFLICT (namespace, source, name, version_id) DO UPDATE SET last_run = excluded.last_run
        WHERE excluded.last_run > w.last_run OR (w.last_run IS NULL AND excluded.last_run IS NOT NULL)";

const COUNT: &str = "
    INSERT INTO workflow_runs AS w (namespace, source, name, version_id, status, runs)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[])
    ON CONFLICT (namespace, source, name, version_id, status)
        DO UPDATE SET runs = greatest(w.runs + excluded.runs, 0)";

const SELECT: &str = "
    SELECT w.source, w.name, w.version_id, w.first_seen_at, w.last_run, r.status, r.runs
    FROM workflows w LEFT JOIN workflow_runs r USING (namespace, source, name, version_id)
    WHERE w.namespace = $1 AND ($2::text IS NULL OR w.source = $2) AND ($3::text IS NULL OR w.name = $3)";

type Key<'a> = [&'a str; 4];

fn key<'a>(change: &WorkflowChange<'a>) -> Key<'a> {
    let workflow = change.workflow;
    [change.namespace.as_str(), workflow.source.as_str(), workflow.name.as_str(), workflow.version.as_str()]
}

fn keys(keys: &[Key<'_>]) -> Vec<Column> {
    let column = |at: usize| -> Column { Box::new(keys.iter().map(|key| key[at].to_owned()).collect::<Vec<_>>()) };
    (0..4).map(column).collect()
}

/// What a commit writes, in the order of the keys: two servers that write the same rows wait for each other, not
/// crosswise.
pub(super) fn writes(mut changes: Vec<WorkflowChange<'_>>) -> Vec<Rows> {
    changes.sort_by_key(key);
    let mut rows = Vec::new();
    let used: Vec<_> = changes.iter().filter(|change| change.last_run.is_some() || is_only_used(change)).collect();
    if !used.is_empty() {
        let mut columns = keys(&used.iter().map(|change| key(change)).collect::<Vec<_>>());
        columns.push(Box::new(used.iter().map(|change| to_column(change.used_at.as_millis())).collect::<Vec<_>>()));
        columns.push(Box::new(used.iter().map(|change| change.last_run.map(Id::from)).collect::<Vec<_>>()));
        rows.push(Rows { sql: USE, columns });
    }
    let counted = |change: &WorkflowChange<'_>| {
        let changed = RunStatus::ALL.iter().zip(change.runs).filter(|(_, runs)| *runs != 0);
        changed.map(|(status, runs)| (status.as_str(), runs)).collect::<Vec<_>>()
    };
    let counts: Vec<_> =
        changes.iter().flat_map(|change| counted(change).into_iter().map(move |count| (key(change), count))).collect();
    if !counts.is_empty() {
        let mut columns = keys(&counts.iter().map(|(key, _)| *key).collect::<Vec<_>>());
        columns.push(Box::new(counts.iter().map(|(_, (status, _))| (*status).to_owned()).collect::<Vec<_>>()));
        columns.push(Box::new(counts.iter().map(|(_, (_, runs))| *runs).collect::<Vec<_>>()));
        rows.push(Rows { sql: COUNT, columns });
    }
    rows
}

/// A schedule names it.
fn is_only_used(change: &WorkflowChange<'_>) -> bool {
    change.runs.iter().all(|runs| *runs == 0)
}

fn read(rows: &[Row]) -> Result<Vec<WorkflowUse>, Error> {
    let mut uses: BTreeMap<WorkflowKey, WorkflowUse> = BTreeMap::new();
    for row in rows {
        let source = if row.try_get::<_, &str>(0)? == Source::System.as_str() { Source::System } else { Source::User };
        let (name, version): (String, String) = (row.try_get(1)?, row.try_get(2)?);
        let workflow = WorkflowKey { source, name: name.into(), version: version.into() };
        let first_seen_at = to_timestamp(row.try_get(3)?);
        let last_run_at = row.try_get::<_, Option<Id>>(4)?.map(|run| run.run().created_at());
        let used = uses.entry(workflow.clone()).or_insert_with(|| WorkflowUse {
            workflow,
            first_seen_at,
            last_run_at,
            runs: StatusCounts::default(),
        });
        let status = row.try_get::<_, Option<&str>>(5)?;
        if let Some(status) = status.and_then(|text| RunStatus::ALL.iter().find(|status| status.as_str() == text)) {
            used.runs.add(*status, row.try_get(6)?);
        }
    }
    Ok(uses.into_values().collect())
}

pub(super) fn list(
    link: &mut Link,
    namespace: &Name,
    of: Option<(Source, &Name)>,
) -> Result<Vec<WorkflowUse>, StorageError> {
    let (source, name) = (of.map(|(source, _)| source.as_str()), of.map(|(_, name)| name.as_str()));
    link.ask(async |session| {
        let select = session.prepare(SELECT).await?;
        read(&session.client.query(&select, &[&namespace.as_str(), &source, &name]).await?)
    })
}
