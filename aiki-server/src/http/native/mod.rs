//! The procedures that only this implementation speaks (`docs/wire-protocol.md`): thin, over [`LocalClient`].

mod claims;
mod listing;
mod runs;
mod schedules;
mod waits;
mod workers;

use std::future::Future;

use aiki_core::{ServerClient, ServerError};
use aiki_wire::error::WireError;
use aiki_wire::native::{Call, Outcome, refusal};

use super::caller::Role::{self, Admin, Client, Worker};
use super::procedure::{Procedure, native};
use super::refusal::Refusal;
use crate::local_client::LocalClient;

/// All of them, each with the least role that may call it.
pub(super) fn procedures() -> Vec<Procedure> {
    vec![
        row(Client, workers::negotiate),
        row(Client, runs::create),
        row(Client, runs::start_and_wait),
        row(Client, runs::get),
        row(Client, runs::get_by_reference),
        row(Client, runs::list_children),
        row(Client, runs::send_events),
        row(Client, runs::cancel),
        row(Client, runs::cancel_many),
        row(Client, runs::command),
        row(Client, waits::await_runs),
        row(Client, workers::list),
        row(Client, listing::runs),
        row(Client, listing::count),
        row(Client, listing::workflows),
        row(Client, listing::versions),
        row(Client, listing::stats),
        row(Client, listing::export),
        row(Worker, runs::get_signals),
        row(Worker, claims::claim),
        row(Worker, claims::claim_ready),
        row(Worker, claims::refresh),
        row(Worker, claims::release),
        row(Worker, claims::report),
        row(Worker, workers::await_news),
        row(Worker, workers::announce),
        row(Client, schedules::get),
        row(Client, schedules::get_by_reference),
        row(Client, schedules::list),
        row(Client, schedules::activate),
        row(Client, schedules::set_status),
        row(Admin, runs::set_task_result),
    ]
}

fn row<C, F>(role: Role, handler: fn(LocalClient, C) -> F) -> Procedure
where
    C: Call,
    F: Future<Output = Result<C::Answer, ServerError>> + Send + 'static,
{
    native(C::PROCEDURE, role, move |client, input: C| {
        let answering = handler(client, input);
        async move { answering.await.map_err(refuse) }
    })
}

/// Our own client gets the error itself as data, unless its text is for the log only.
fn refuse(error: ServerError) -> Refusal {
    let data = refusal(&error).data;
    let mut refusal = Refusal::from(error);
    if refusal.hidden.is_none() {
        refusal.error.data = data;
    }
    refusal
}

/// The same for one item of a batch.
fn told(error: ServerError) -> WireError {
    let Refusal { error, hidden, .. } = refuse(error);
    if let Some(hidden) = hidden {
        tracing::warn!(code = error.code, hidden, "an item of a call failed");
    }
    error
}

fn outcome<T>(result: Result<T, ServerError>) -> Outcome<T> {
    match result {
        Ok(value) => Outcome::Ok(value),
        Err(error) => Outcome::Error(told(error)),
    }
}

/// The namespace's client as the trait sees it.
fn server(client: &LocalClient) -> &dyn ServerClient {
    client
}
