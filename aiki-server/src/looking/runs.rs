//! Runs: many in a list, the whole of one as a document.

use std::io::Write;
use std::time::Duration;

use aiki_core::listing::{MAX_PAGE, RunFilter, RunOrder, RunSummary};
use aiki_core::run::TaskCounts;
use aiki_core::{Client, RunId, Timestamp};

use super::table::{Table, shown};
use super::{Format, LookingError, relative, utc};

/// What is listed.
#[derive(Clone, Debug)]
pub struct ListRuns {
    /// Which runs.
    pub filter: RunFilter,
    /// In which order.
    pub order: RunOrder,
    /// From behind this run.
    pub after: Option<RunId>,
    /// At most so many; they are fetched in pages.
    pub limit: usize,
}

impl Default for ListRuns {
    /// The 50 newest.
    fn default() -> Self {
        Self { filter: RunFilter::default(), order: RunOrder::default(), after: None, limit: 50 }
    }
}

/// Writes a list of runs.
///
/// # Errors
/// [`LookingError`]; what was written by then stays written.
pub async fn list(
    client: &Client,
    asked: ListRuns,
    format: Format,
    now: Timestamp,
    out: &mut impl Write,
) -> Result<(), LookingError> {
    let mut runs =
        client.list_runs(asked.filter).order(asked.order).page_size(asked.limit.saturating_add(1).min(MAX_PAGE));
    if let Some(after) = asked.after {
        runs = runs.after(after);
    }
    let mut table = Table::new(&["RUN", "WORKFLOW", "STATUS", "CREATED", "", "TOOK", "TASKS", "REFERENCE"]);
    let (mut count, mut last) = (0, None);
    while count < asked.limit
        && let Some(run) = runs.next().await?
    {
        match format {
            Format::JsonLines => writeln!(out, "{}", serde_json::to_string(&run)?)?,
            Format::Table => table.row(row(&run, now)),
        }
        (count, last) = (count + 1, Some(run.id));
    }
    if format == Format::JsonLines {
        return Ok(());
    }
    match last {
        None => writeln!(out, "no runs")?,
        Some(last) => {
            table.write("", out)?;
            if count == asked.limit && runs.next().await?.is_some() {
                writeln!(out, "there are more: go on after {last}")?;
            }
        }
    }
    Ok(())
}

fn row(run: &RunSummary, now: Timestamp) -> [String; 8] {
    [
        run.id.to_string(),
        run.workflow.to_string(),
        run.status.to_string(),
        utc(run.created_at),
        relative(run.created_at, now),
        run.ended_at.map(|ended| took(ended.since(run.created_at))).unwrap_or_default(),
        tasks(&run.tasks),
        run.reference_id.clone().unwrap_or_default(),
    ]
}

/// How long a run took, in its two largest units.
fn took(time: Duration) -> String {
    let (millis, seconds) = (time.as_millis(), time.as_secs());
    match seconds {
        0..10 => format!("{millis}ms"),
        10..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// Tasks that have completed, of all; and those that failed.
fn tasks(counts: &TaskCounts) -> String {
    let TaskCounts { running, awaiting_retry, completed, failed, discarded } = counts;
    let all = running + awaiting_retry + completed + failed + discarded;
    match (all, failed) {
        (0, _) => String::new(),
        (_, 0) => format!("{completed}/{all}"),
        _ => format!("{completed}/{all}, {failed} failed"),
    }
}

/// Cancels runs and writes the ids of those that had not ended, one per line.
///
/// # Errors
/// [`LookingError`].
pub async fn cancel(client: &Client, runs: &[RunId], out: &mut impl Write) -> Result<(), LookingError> {
    for some in runs.chunks(MAX_PAGE) {
        for run in client.cancel_runs(some).await? {
            writeln!(out, "{}", shown(&run.to_string()))?;
        }
    }
    Ok(())
}

/// Writes the export of a run: one line of JSON.
///
/// # Errors
/// [`LookingError`]; [`ServerError::RunNotFound`](aiki_core::ServerError::RunNotFound) when there is no such run.
pub async fn export(client: &Client, run: RunId, out: &mut impl Write) -> Result<(), LookingError> {
    let export = client.export(run).await?;
    Ok(writeln!(out, "{}", export.to_json()?)?)
}
