//! Runs: starting, reading, commanding.

use aiki_core::run::record::Signal;
use aiki_core::server_client::{ChildRun, CreatedRun, SetTaskResult};
use aiki_core::{RunId, ServerError};
use aiki_wire::native::{self, NewRun, OneEvent, Outcome, RunData, StartedAndWaited, TaskResult};

use super::{outcome, server};
use crate::local_client::LocalClient;
use crate::storage::StoredRun;
use crate::validate;

/// A run as it travels: its stored lines as they are.
pub(super) async fn data(client: &LocalClient, row: StoredRun) -> Result<RunData, ServerError> {
    let pages = client.server.readers.pages(&row).await?;
    let pages = pages.iter().map(String::as_str).chain(std::iter::once(row.tail.as_str()));
    RunData::new(row.head, pages).map_err(|error| ServerError::Internal(error.to_string()))
}

/// All in one go, so that they are one commit.
pub(super) async fn create(
    client: LocalClient,
    call: native::CreateRuns,
) -> Result<Vec<Outcome<CreatedRun>>, ServerError> {
    validate::items("runs", call.runs.len())?;
    let runs = call.runs.into_iter().map(|NewRun { key, run }| client.creation(key, run)).collect();
    Ok(client.call_each(runs).await.into_iter().map(outcome).collect())
}

pub(super) async fn start_and_wait(
    client: LocalClient,
    call: native::StartAndWait,
) -> Result<StartedAndWaited, ServerError> {
    match outcome(client.create_run_once(call.run.key, call.run.run).await) {
        Outcome::Ok(created) => {
            let timeout = call.timeout.min(native::MAX_WAIT);
            let view = server(&client).await_run(created.id, timeout).await;
            Ok(StartedAndWaited::of(created, outcome(view)))
        }
        refused => Ok(StartedAndWaited { created: refused, view: None }),
    }
}

pub(super) async fn get(client: LocalClient, call: native::GetRun) -> Result<RunData, ServerError> {
    data(&client, client.load(call.run).await?).await
}

pub(super) async fn get_by_reference(
    client: LocalClient,
    call: native::GetRunByReference,
) -> Result<RunData, ServerError> {
    let run = client.find_by_reference(&call.workflow, &call.reference_id).await?;
    data(&client, client.load(run).await?).await
}

pub(super) async fn cancel(client: LocalClient, call: native::CancelRun) -> Result<(), ServerError> {
    server(&client).cancel_run(call.run, call.explanation).await
}

pub(super) async fn cancel_many(client: LocalClient, call: native::CancelRuns) -> Result<Vec<RunId>, ServerError> {
    server(&client).cancel_runs(&call.runs).await
}

pub(super) async fn command(client: LocalClient, call: native::CommandRun) -> Result<(), ServerError> {
    server(&client).command_run(call.run, call.command).await
}

pub(super) async fn set_task_result(client: LocalClient, call: native::SetTaskResult) -> Result<(), ServerError> {
    let native::SetTaskResult { run, target, result } = call;
    let result = match result {
        TaskResult::Completed { output } => Ok(output),
        TaskResult::Failed { error } => Err(error),
    };
    server(&client).set_task_result(SetTaskResult { run, target, result }).await
}

pub(super) async fn list_children(
    client: LocalClient,
    call: native::ListChildRuns,
) -> Result<Vec<ChildRun>, ServerError> {
    server(&client).list_child_runs(call.run, &call.statuses).await
}

pub(super) async fn get_signals(client: LocalClient, call: native::GetSignals) -> Result<Vec<Signal>, ServerError> {
    server(&client).get_signals(call.run, call.known).await
}

/// All in one go, so that they are one commit.
pub(super) async fn send_events(
    client: LocalClient,
    call: native::SendEvents,
) -> Result<Vec<Outcome<()>>, ServerError> {
    validate::items("events", call.events.len())?;
    let events = call.events.into_iter().map(|OneEvent { event, key }| client.reception(event, key)).collect();
    Ok(client.call_each(events).await.into_iter().map(outcome).collect())
}
