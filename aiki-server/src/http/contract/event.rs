//! Events.

use aiki_core::run::plan::EventMessage;
use aiki_core::server_client::SendEvent;
use aiki_core::{RunId, ServerClient, ServerError};
use aiki_wire::contract::run_answer::MulticastAnswer;
use aiki_wire::contract::run_request::{self, Few, MulticastByReference, MulticastEvent, SendEventV1};
use aiki_wire::contract::unknown::UnknownId;

use crate::http::refusal::Refusal;
use crate::local_client::LocalClient;

pub(super) async fn send(client: LocalClient, asked: SendEventV1) -> Result<(), Refusal> {
    let run = UnknownId::run(&asked.id)?;
    Ok(hand(&client, run, run_request::event(asked.event, asked.data, asked.options)).await?)
}

async fn hand(client: &LocalClient, run: RunId, event: EventMessage) -> Result<(), ServerError> {
    client.send_plain_event(SendEvent { run, event }).await
}

pub(super) async fn multicast(client: LocalClient, asked: MulticastEvent) -> Result<MulticastAnswer, Refusal> {
    let Few(ids) = asked.ids;
    let event = run_request::event(asked.event, asked.data, asked.options);
    let runs = ids.into_iter().map(|id| (UnknownId::run(&id).ok(), id.into_string()));
    Ok(hand_to_all(&client, runs, &event).await)
}

/// References that lead nowhere are found out before anything is sent.
pub(super) async fn multicast_by_reference(
    client: LocalClient,
    asked: MulticastByReference,
) -> Result<MulticastAnswer, Refusal> {
    let Few(references) = asked.references;
    let mut runs = Vec::with_capacity(references.len());
    for reference in references {
        let run = client.get_run_by_reference(&reference.workflow(), &reference.reference).await?.id;
        runs.push((Some(run), run.to_string()));
    }
    let event = run_request::event(asked.event, asked.data, asked.options);
    Ok(hand_to_all(&client, runs.into_iter(), &event).await)
}

async fn hand_to_all(
    client: &LocalClient,
    runs: impl Iterator<Item = (Option<RunId>, String)>,
    event: &EventMessage,
) -> MulticastAnswer {
    let mut answer = MulticastAnswer::default();
    for (run, id) in runs {
        let sent = match run {
            Some(run) => hand(client, run, event.clone()).await.is_ok(),
            None => false,
        };
        if sent { answer.sent_ids.push(id) } else { answer.failed_ids.push(id) }
    }
    answer
}
