//! What callers do to runs.

use std::time::Duration;

use aiki_core::run::{SleepState, TaskStatus};
use aiki_core::server_client::{ClaimOutcome, ClaimStatus};
use aiki_core::{Name, RunState, ServerError, Transition};

use crate::server::{LEASE, Pass, ServerHarness, claim, create, try_claim};

pub async fn a_running_run_is_cancelled_and_its_worker_loses_the_claim(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    let mut pass = claim(&client, "w", run).await;
    pass.report(vec![pass.open(0)]).await;
    client.server().cancel_run(run, Some("sold out".into())).await.unwrap();
    let refreshed = client.server().refresh_runs(&Name::new("w"), &[pass.claim()], LEASE).await.unwrap();
    assert_eq!(refreshed, [ClaimStatus::Lost]);
    assert_eq!(pass.try_report(vec![pass.complete(0, "1")]).await, Err(ServerError::ClaimLost(run)));
    let record = client.server().get_run(run).await.unwrap();
    assert_eq!(record.state, RunState::Cancelled { explanation: Some("sold out".into()) });
    assert_eq!(record.tasks[0].state.status(), TaskStatus::Discarded);
}

pub async fn a_sleeping_run_is_cancelled(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    let mut pass = claim(&client, "w", run).await;
    pass.report(vec![Pass::sleep(0, Duration::from_secs(60)), Transition::Suspended]).await;
    client.server().cancel_run(run, None).await.unwrap();
    harness.advance(Duration::from_secs(61)).await;
    let record = client.server().get_run(run).await.unwrap();
    assert_eq!(record.state, RunState::Cancelled { explanation: None });
    assert!(matches!(record.sleeps[0].state, SleepState::Cancelled { .. }), "{:?}", record.sleeps);
    assert_eq!(try_claim(&client, "w", run).await, ClaimOutcome::Done);
}

pub async fn an_ended_run_cannot_be_cancelled(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    claim(&client, "w", run).await.finish().await;
    let before = client.server().get_run(run).await.unwrap();
    let refused = client.server().cancel_run(run, None).await;
    assert!(matches!(refused, Err(ServerError::IllegalTransition(_))), "{refused:?}");
    assert_eq!(client.server().get_run(run).await.unwrap(), before);
}
