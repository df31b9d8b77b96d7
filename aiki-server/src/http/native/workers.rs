//! What workers and the server tell each other besides claims and reports.

use aiki_core::server_client::WorkerInfo;
use aiki_core::{RunId, ServerError};
use aiki_wire::native::{self, Negotiated};

use super::server;
use crate::local_client::LocalClient;
use crate::presence::Visit;
use crate::validate;

pub(super) async fn negotiate(client: LocalClient, call: native::Negotiate) -> Result<Negotiated, ServerError> {
    if !call.versions.contains(&native::VERSION) {
        let (theirs, ours) = (call.versions, native::VERSION);
        return Err(ServerError::Invalid(format!(
            "the client speaks the versions {theirs:?} of the native procedures, this server {ours}: use a client \
             of the server's release"
        )));
    }
    Ok(Negotiated {
        version: native::VERSION,
        namespace: server(&client).namespace().clone(),
        payload_limit: client.server.payload_limit,
        max_items: native::MAX_ITEMS,
        max_wait_ms: native::MAX_WAIT.as_millis() as u64,
    })
}

pub(super) async fn await_news(client: LocalClient, call: native::AwaitNews) -> Result<Vec<RunId>, ServerError> {
    validate::worker(&call.worker)?;
    let visit = Visit::begin(&client.server, &client.namespace, &call.worker);
    let news = server(&client).await_news(&call.worker, call.timeout.min(native::MAX_WAIT)).await;
    visit.answered();
    news
}

pub(super) async fn announce(client: LocalClient, call: native::AnnounceWorker) -> Result<(), ServerError> {
    client.server.presences.heard_of(&client.namespace, &call.worker);
    server(&client).announce_worker(&call.worker, call.serves).await
}

pub(super) async fn list(client: LocalClient, _call: native::ListWorkers) -> Result<Vec<WorkerInfo>, ServerError> {
    server(&client).list_workers().await
}
