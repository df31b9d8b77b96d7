//! Workers: who is there, what they serve and hold.

use std::fmt;
use std::io::Write;
use std::time::Duration;

use aiki_core::server_client::{WorkerInfo, WorkerServes};
use aiki_core::{Client, Timestamp};
use serde::Serialize;

use super::table::Table;
use super::{Format, LookingError, relative, utc};

/// A worker that is there is heard of at least every 30 s. Twice as long without a word: it was killed, or it is cut off.
const SILENT_AFTER: Duration = Duration::from_secs(60);

/// Whether a worker is there, as far as the server can know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum WorkerState {
    /// It was heard of a short while ago.
    Working,
    /// It has said that it stops.
    Stopped,
    /// It has not said so, and is not heard of any more.
    Silent,
}

impl WorkerState {
    fn of(worker: &WorkerInfo, now: Timestamp) -> Self {
        let serves_nothing = |serves: &WorkerServes| serves.workflows.is_empty();
        match now.since(worker.last_seen) > SILENT_AFTER {
            // A worker that serves nothing does not start: this one has said farewell.
            _ if worker.holds.is_empty() && worker.serves.as_ref().is_some_and(serves_nothing) => WorkerState::Stopped,
            true => WorkerState::Silent,
            false => WorkerState::Working,
        }
    }
}

impl fmt::Display for WorkerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WorkerState::Working => "working",
            WorkerState::Stopped => "stopped",
            WorkerState::Silent => "silent",
        })
    }
}

/// A worker in JSON.
#[derive(Serialize)]
struct Line<'a> {
    state: WorkerState,
    #[serde(flatten)]
    worker: &'a WorkerInfo,
}

/// Writes the workers that the server has heard of lately, by name.
///
/// # Errors
/// [`LookingError`]; what was written by then stays written.
pub async fn list_workers(
    client: &Client,
    format: Format,
    now: Timestamp,
    out: &mut impl Write,
) -> Result<(), LookingError> {
    let mut workers = client.workers().await?;
    workers.sort_by(|a, b| a.name.cmp(&b.name));
    if format == Format::JsonLines {
        for worker in &workers {
            writeln!(out, "{}", serde_json::to_string(&Line { state: WorkerState::of(worker, now), worker })?)?;
        }
        return Ok(());
    }
    if workers.is_empty() {
        return Ok(writeln!(out, "no workers")?);
    }
    let mut table = Table::new(&["WORKER", "STATE", "LAST SEEN", "", "HOLDS", "POOLS", "SERVES"]);
    workers.iter().for_each(|worker| table.row(row(worker, now)));
    Ok(table.write("", out)?)
}

fn row(worker: &WorkerInfo, now: Timestamp) -> [String; 7] {
    let joined = |texts: Vec<String>| texts.join(", ");
    let (pools, serves) = match &worker.serves {
        None => (String::new(), "has not said".into()),
        Some(WorkerServes { workflows, pools }) => (
            joined(pools.iter().map(ToString::to_string).collect()),
            joined(workflows.iter().map(ToString::to_string).collect()),
        ),
    };
    [
        worker.name.to_string(),
        WorkerState::of(worker, now).to_string(),
        utc(worker.last_seen),
        relative(worker.last_seen, now),
        worker.holds.len().to_string(),
        pools,
        serves,
    ]
}
