//! Runs.

use std::time::Duration;

use aiki_core::{RunState, ServerClient};
use aiki_wire::contract::run_request::ById;
use serde::Serialize;

use super::ids;
use crate::http::refusal::Refusal;
use crate::local_client::LocalClient;

#[derive(Serialize)]
pub(super) struct StateAnswer {
    state: RunState,
}

pub(super) async fn get_state(client: LocalClient, asked: ById) -> Result<StateAnswer, Refusal> {
    let view = client.await_run(ids::run(&asked.id)?, Duration::ZERO).await?;
    Ok(StateAnswer { state: view.state })
}
