//! The table of workflow versions: small, so that statistics read no runs.

use std::sync::LazyLock;

use aiki_core::Name;
use aiki_core::listing::{StatusCounts, WorkflowUse};
use aiki_core::name::{Source, WorkflowKey};
use aiki_core::run::RunStatus;
use rusqlite::types::Value;
use rusqlite::{Connection, Row, Transaction, params_from_iter};

use super::{to_column, to_run_id, to_timestamp};
use crate::storage::{StorageError, WorkflowChange};

fn columns(of: impl Fn(&str) -> String) -> String {
    RunStatus::ALL.iter().map(|status| of(status.as_str())).collect::<Vec<_>>().join(", ")
}

static UPSERT: LazyLock<String> = LazyLock::new(|| {
    let places = (7..7 + RunStatus::ALL.len()).map(|place| format!("?{place}")).collect::<Vec<_>>().join(", ");
    format!(
        "INSERT INTO workflows (namespace, source, name, version_id, first_seen_at, last_run, {})
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, {places})
         ON CONFLICT DO UPDATE SET last_run = coalesce(excluded.last_run, last_run), {}",
        columns(str::to_owned),
        columns(|status| format!("{status} = max({status} + excluded.{status}, 0)")),
    )
});

static SELECT: LazyLock<String> = LazyLock::new(|| {
    let columns = columns(str::to_owned);
    format!("SELECT source, name, version_id, first_seen_at, last_run, {columns} FROM workflows WHERE namespace = ?1")
});

static SELECT_ONE: LazyLock<String> = LazyLock::new(|| format!("{} AND source = ?2 AND name = ?3", *SELECT));

/// Writes what a commit means for a row.
pub(super) fn write(transaction: &Transaction<'_>, change: &WorkflowChange<'_>) -> Result<(), StorageError> {
    let key = change.workflow;
    let text = |text: &str| Value::Text(text.to_owned());
    let keys = [change.namespace.as_str(), key.source.as_str(), key.name.as_str(), key.version.as_str()].map(text);
    let used_at = Value::Integer(to_column(change.used_at.as_millis()));
    let last_run = change.last_run.map_or(Value::Null, |run| Value::Blob(run.to_bytes().to_vec()));
    let values = keys.into_iter().chain([used_at, last_run]).chain(change.runs.map(Value::Integer));
    transaction.prepare_cached(&UPSERT)?.execute(params_from_iter(values))?;
    Ok(())
}

fn read(row: &Row<'_>) -> Result<WorkflowUse, StorageError> {
    let source = if row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)? == Source::System.as_str() {
        Source::System
    } else {
        Source::User
    };
    let (name, version): (String, String) = (row.get(1)?, row.get(2)?);
    let last_run: Option<Vec<u8>> = row.get(4)?;
    let mut runs = StatusCounts::default();
    for (column, status) in (5..).zip(RunStatus::ALL) {
        runs.add(*status, row.get(column)?);
    }
    Ok(WorkflowUse {
        workflow: WorkflowKey { source, name: name.into(), version: version.into() },
        first_seen_at: to_timestamp(row.get(3)?),
        last_run_at: last_run.map(|run| to_run_id(&run).map(|run| run.created_at())).transpose()?,
        runs,
    })
}

pub(super) fn list(
    connection: &Connection,
    namespace: &Name,
    of: Option<(Source, &Name)>,
) -> Result<Vec<WorkflowUse>, StorageError> {
    let keys = of.map(|(source, name)| [source.as_str(), name.as_str()]);
    let sql = if keys.is_some() { &SELECT_ONE } else { &SELECT };
    let mut select = connection.prepare_cached(sql)?;
    let keys = std::iter::once(namespace.as_str()).chain(keys.into_iter().flatten());
    let mut rows = select.query(params_from_iter(keys))?;
    let mut list = Vec::new();
    while let Some(row) = rows.next()? {
        list.push(read(row)?);
    }
    list.sort_by(|a, b| a.workflow.cmp(&b.workflow));
    Ok(list)
}
