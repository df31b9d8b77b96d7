//! One run, with all that happened to it.

use std::io::Write;
use std::time::Duration;

use aiki_core::listing::{RunFilter, RunOrder, RunSummary};
use aiki_core::run::record::{TransitionChange, TransitionRecord};
use aiki_core::run::{FailureCause, QueuedReason, RunStatus, TaskState};
use aiki_core::{Client, RunId, RunRecord, RunState, ServerError, Timestamp};

use super::table::Table;
use super::{Format, LookingError, export, relative, utc};

/// So many children are shown at most.
const CHILDREN: usize = 50;

/// Writes a run with its tasks, its children and all that happened to it; as JSON, its [export](super::export).
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
    children(client, run, now, out).await?;
    writeln!(out, "\nwhat happened")?;
    let mut table = Table::new(&["TIME", "", "WHAT", "BECAME", "ATTEMPT", ""]);
    for transition in &transitions {
        table.row(happened(&record, transition, now));
    }
    Ok(table.write("  ", out)?)
}

/// Writes the children of a run, the oldest first.
async fn children(client: &Client, parent: RunId, now: Timestamp, out: &mut impl Write) -> Result<(), LookingError> {
    let filter = RunFilter { parent: Some(parent), ..RunFilter::default() };
    let mut children = client.list_runs(filter).order(RunOrder::OldestFirst).page_size(CHILDREN + 1);
    let mut table = Table::new(&["CHILD", "WORKFLOW", "STATUS", "CREATED", "ENDED"]);
    let mut count = 0;
    while count < CHILDREN
        && let Some(child) = children.next().await?
    {
        count += 1;
        let (created, ended) = (relative(child.created_at, now), child.ended_at.map(|ended| relative(ended, now)));
        table.row([
            child.id.to_string(),
            child.workflow.to_string(),
            child.status.to_string(),
            created,
            ended.unwrap_or_default(),
        ]);
    }
    if count == 0 {
        return Ok(());
    }
    writeln!(out, "\nchildren")?;
    table.write("  ", out)?;
    if count == CHILDREN && children.next().await?.is_some() {
        writeln!(out, "  there are more: aiki-server runs list --parent {parent}")?;
    }
    Ok(())
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

fn happened(record: &RunRecord, transition: &TransitionRecord, now: Timestamp) -> [String; 6] {
    let at = transition.created_at;
    let (what, became, why) = match &transition.change {
        TransitionChange::Run(state) => ("run".into(), state.status().to_string(), why(state)),
        TransitionChange::Task(id, state) => {
            let name = record.tasks.iter().find(|task| task.id == *id).map(|task| task.name.clone());
            (format!("task {}", name.unwrap_or_else(|| id.to_string())), state.status().to_string(), error(state))
        }
    };
    [utc(at), relative(at, now), what, became, transition.attempt.to_string(), why]
}

/// Why a run came to a state: for a run that is ready, why a worker is given it next.
fn why(state: &RunState) -> String {
    let RunState::Queued { reason: queued } = state else {
        return reason(state).map(|text| cut(&text)).unwrap_or_default();
    };
    match queued {
        QueuedReason::New => "",
        QueuedReason::Retry => "the run is tried again",
        QueuedReason::TaskRetry => "a task is tried again",
        QueuedReason::Wakeup => "its sleep is over",
        QueuedReason::WakeupEarly => "its sleep was cut short",
        QueuedReason::Resumption => "it was resumed after a pause",
        QueuedReason::Event => "an event has come",
        QueuedReason::EventWaitTimeout => "it has waited long enough for an event",
        QueuedReason::ChildWorkflow => "a child has ended",
        QueuedReason::ChildWorkflowWaitTimeout => "it has waited long enough for a child",
        QueuedReason::Recovery => "taken from its worker: the lease ran out, or the worker handed it back",
        QueuedReason::Redelivery => "an operator sent it back to work",
    }
    .to_owned()
}

/// The beginning of a text that may be long.
fn cut(text: &str) -> String {
    const LENGTH: usize = 200;
    match text.char_indices().nth(LENGTH) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
        None => text.to_owned(),
    }
}
