//! Reading runs.

use std::time::Duration;

use aiki_core::ServerClient;
use aiki_core::run::RunState;
use aiki_core::run::record::TransitionChange;
use aiki_wire::contract::common::{ById, Order};
use aiki_wire::contract::run_answer::{ChildList, FoundState, Terminated, TransitionList};
use aiki_wire::contract::run_record::FoundRun;
use aiki_wire::contract::run_request::{HasTerminated, ListChildRuns, ListTransitions, RunReference};
use aiki_wire::contract::unknown::UnknownId;

use super::page::Page;
use crate::http::refusal::Refusal;
use crate::local_client::LocalClient;

pub(super) async fn get(client: LocalClient, asked: ById) -> Result<FoundRun, Refusal> {
    let record = client.look_at_run(UnknownId::run(&asked.id)?).await?;
    Ok(FoundRun { run: record.into() })
}

pub(super) async fn get_by_reference(client: LocalClient, asked: RunReference) -> Result<FoundRun, Refusal> {
    let record = client.get_run_by_reference(&asked.workflow(), &asked.reference).await?;
    Ok(FoundRun { run: record.into() })
}

pub(super) async fn get_state(client: LocalClient, asked: ById) -> Result<FoundState, Refusal> {
    let view = client.await_run(UnknownId::run(&asked.id)?, Duration::ZERO).await?;
    Ok(FoundState { state: view.state })
}

pub(super) async fn list_transitions(client: LocalClient, asked: ListTransitions) -> Result<TransitionList, Refusal> {
    let all = client.list_transitions(UnknownId::run(&asked.id)?).await?;
    let (page, total) = (Page::new(asked.limit, asked.offset), all.len() as u64);
    let all = all.into_iter();
    let part = match asked.sort.map(|sort| sort.order) {
        Some(Order::Asc) => page.of(all),
        Some(Order::Desc) | None => page.of(all.rev()),
    };
    Ok(TransitionList { transitions: part.into_iter().map(Into::into).collect(), total })
}

pub(super) async fn list_children(client: LocalClient, asked: ListChildRuns) -> Result<ChildList, Refusal> {
    let runs = match UnknownId::run(&asked.id) {
        Ok(run) => client.list_child_runs(run, &asked.status.unwrap_or_default()).await?,
        Err(_) => Vec::new(),
    };
    Ok(ChildList { runs: runs.into_iter().map(Into::into).collect() })
}

/// Also true for the very transition with which the run ended: whoever waits on a run that has ended already
/// would wait for ever otherwise.
pub(super) async fn has_terminated(client: LocalClient, asked: HasTerminated) -> Result<Terminated, Refusal> {
    let head = client.load(UnknownId::run(&asked.id)?).await?.head;
    let latest = head.state_transition_id();
    // Ids sort as their texts do.
    let terminated = if head.state.is_terminal() {
        latest.to_string().as_str() >= &*asked.after
    } else if head.attempts > 1 || matches!(head.state, RunState::AwaitingRetry { .. }) {
        // It may have failed before it was retried.
        let ended = |change: &TransitionChange| matches!(change, TransitionChange::Run(state) if state.is_terminal());
        let all = client.list_transitions(head.id).await?;
        all.iter().any(|one| ended(&one.change) && one.id.to_string().as_str() > &*asked.after)
    } else {
        false
    };
    Ok(Terminated { terminated, latest_state_transition_id: latest })
}
