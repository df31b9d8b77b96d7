//! Runs: many in a list, one with all that happened to it.

use std::io::Write;
use std::time::Duration;

use aiki_core::listing::{MAX_PAGE, RunFilter, RunOrder, RunSummary};
use aiki_core::run::record::{TransitionChange, TransitionRecord};
use aiki_core::run::{FailureCause, RunStatus, TaskCounts, TaskState};
use aiki_core::{Client, RunId, RunRecord, RunState, ServerError, Timestamp};

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

/// Writes a run with its tasks and all that happened to it; as JSON, its [export](export).
///
/// # Errors
/// [`LookingError`]; [`ServerError::RunNotFound`] when there is no such run.
pub async fn show(
    client: &Client,
    run: RunId,
    format: Format,
    now: Timestamp,
    out: &mut impl Write,
) -> Result<(), LookingError> {
    if format == Format::JsonLines {
        return export(client, run, out).await;
    }
    let filter = RunFilter { id: Some(run), ..RunFilter::default() };
    let summary = client.list_runs(filter).next().await?.ok_or(ServerError::RunNotFound(run))?;
    let server = client.server();
    let unserved = server.await_run(run, Duration::ZERO).await?.unserved;
    let (record, transitions) = (server.get_run(run).await?, server.list_transitions(run).await?);
    facts(&summary, &record, unserved, now).write("", out)?;
    if !record.tasks.is_empty() {
        writeln!(out, "\ntasks")?;
        let mut table = Table::new(&["TASK", "NAME", "STATUS", "ATTEMPTS", ""]);
        for task in &record.tasks {
            let (status, attempts) = (task.state.status().to_string(), task.state.attempts().to_string());
            table.row([task.id.to_string(), task.name.clone(), status, attempts, error(&task.state)]);
        }
        table.write("  ", out)?;
    }
    writeln!(out, "\nwhat happened")?;
    let mut table = Table::new(&["TIME", "", "WHAT", "BECAME", "ATTEMPT"]);
    for transition in &transitions {
        table.row(happened(&record, transition, now));
    }
    Ok(table.write("  ", out)?)
}

fn facts(run: &RunSummary, record: &RunRecord, unserved: bool, now: Timestamp) -> Table {
    let mut table = Table::new(&["run", &run.id.to_string()]);
    let mut fact = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            table.row([name.to_owned(), value]);
        }
    };
    let time = |time: Timestamp| format!("{} ({})", utc(time), relative(time, now));
    let status = match (run.status, unserved) {
        (RunStatus::Queued, true) => "queued; no worker that is there serves its version and pool".into(),
        (status, _) => status.to_string(),
    };
    fact("workflow", Some(run.workflow.to_string()));
    fact("status", Some(status));
    fact("because", reason(&record.state));
    fact("created", Some(time(run.created_at)));
    fact("started", run.started_at.map(time));
    fact("ended", run.ended_at.map(time));
    fact("deadline", record.deadline.map(time));
    fact("attempts", Some(run.attempts.to_string()));
    fact("reference", run.reference_id.clone());
    fact("schedule", run.schedule.map(|schedule| schedule.to_string()));
    fact("parent", run.parent.map(|parent| parent.to_string()));
    fact("pool", run.pool.as_ref().map(ToString::to_string));
    fact("input", record.input.as_ref().map(|input| cut(input.as_str())));
    if let RunState::Completed { output: Some(output) } = &record.state {
        fact("output", Some(cut(output.as_str())));
    }
    table
}

/// Why a run stands where it stands, when somebody said so.
fn reason(state: &RunState) -> Option<String> {
    match state {
        RunState::Cancelled { explanation } => explanation.clone(),
        RunState::Failed { cause } | RunState::AwaitingRetry { cause, .. } => Some(match cause {
            FailureCause::Task(task, error) => {
                let told = error.as_ref().map(|error| format!(": {}", error.message)).unwrap_or_default();
                format!("task {task} failed{told}")
            }
            _ => cause
                .error()
                .map_or_else(|| "its child failed".into(), |error| format!("{}: {}", error.name, error.message)),
        }),
        _ => None,
    }
}

fn error(state: &TaskState) -> String {
    match state {
        TaskState::Failed { error, .. } | TaskState::AwaitingRetry { error, .. } => {
            cut(&format!("{}: {}", error.name, error.message))
        }
        _ => String::new(),
    }
}

fn happened(record: &RunRecord, transition: &TransitionRecord, now: Timestamp) -> [String; 5] {
    let at = transition.created_at;
    let (what, became) = match &transition.change {
        TransitionChange::Run(state) => ("run".into(), state.status().to_string()),
        TransitionChange::Task(id, state) => {
            let name = record.tasks.iter().find(|task| task.id == *id).map(|task| task.name.clone());
            (format!("task {}", name.unwrap_or_else(|| id.to_string())), state.status().to_string())
        }
    };
    [utc(at), relative(at, now), what, became, transition.attempt.to_string()]
}

/// The beginning of a text that may be long.
fn cut(text: &str) -> String {
    const LENGTH: usize = 200;
    match text.char_indices().nth(LENGTH) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
        None => text.to_owned(),
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
/// [`LookingError`]; [`ServerError::RunNotFound`] when there is no such run.
pub async fn export(client: &Client, run: RunId, out: &mut impl Write) -> Result<(), LookingError> {
    let export = client.export(run).await?;
    Ok(writeln!(out, "{}", export.to_json()?)?)
}
