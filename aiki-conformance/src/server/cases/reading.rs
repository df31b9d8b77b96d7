//! Reading runs, waiting for them.

use std::time::Duration;

use aiki_core::run::plan::CreateRun;
use aiki_core::run::record::TransitionChange;
use aiki_core::run::{Reference, RunStatus};
use aiki_core::server_client::ClaimOutcome;
use aiki_core::{Name, RunId, ServerError, Transition};

use crate::server::{LEASE, ServerHarness, claim, create, ready_request, request, try_claim, workflow};

/// Much longer than any case takes.
const LONG: Duration = Duration::from_secs(20);

pub async fn a_long_poll_wakes_when_the_run_ends(harness: &impl ServerHarness) {
    let client = harness.client();
    // Ends race with the beginning of the wait: none may slip through.
    for _ in 0..20 {
        let run = create(&client).await;
        let pass = claim(&client, "w", run).await;
        let waits: Vec<_> = (0..3)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(async move { client.server().await_run(run, LONG).await.unwrap() })
            })
            .collect();
        let before = tokio::time::Instant::now();
        pass.finish().await;
        for wait in waits {
            let view = wait.await.unwrap();
            assert_eq!(view.state.status(), RunStatus::Completed);
            assert_eq!(view.revision, client.server().get_run(run).await.unwrap().revision);
        }
        assert!(before.elapsed() < LONG, "the wait timed out instead of being woken");
    }
}

pub async fn a_long_poll_that_times_out_tells_the_state(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    for timeout in [Duration::ZERO, Duration::from_millis(20)] {
        let view = client.server().await_run(run, timeout).await.unwrap();
        assert_eq!(view.state.status(), RunStatus::Queued);
    }
}

pub async fn waiting_for_an_ended_run_answers_at_once(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    client.server().cancel_run(run, None).await.unwrap();
    let before = tokio::time::Instant::now();
    let view = client.server().await_run(run, LONG).await.unwrap();
    assert_eq!(view.state.status(), RunStatus::Cancelled);
    assert!(before.elapsed() < LONG);
}

pub async fn every_transition_is_listed_in_order(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    let mut pass = claim(&client, "w", run).await;
    pass.report(vec![pass.open(0)]).await;
    pass.report(vec![pass.complete(0, "1"), Transition::Completed { output: None }]).await;
    let list = client.server().list_transitions(run).await.unwrap();
    let changes: Vec<String> = list
        .iter()
        .map(|transition| match &transition.change {
            TransitionChange::Run(state) => state.status().to_string(),
            TransitionChange::Task(task, state) => format!("task {} {}", task.ordinal(), state.status()),
        })
        .collect();
    assert_eq!(changes, ["scheduled", "queued", "running", "task 0 running", "task 0 completed", "completed"]);
    assert!(list.windows(2).all(|pair| pair[0].id < pair[1].id && pair[0].created_at <= pair[1].created_at));
    let record = client.server().get_run(run).await.unwrap();
    assert_eq!(list.last().unwrap().id, record.state_transition_id);
}

pub async fn namespaces_do_not_see_each_other(harness: &impl ServerHarness) {
    let (ours, theirs) = (harness.client(), harness.client_for(Name::new("other")));
    assert_eq!(theirs.server().namespace().as_str(), "other");
    let reference = Some(Reference { id: "order-1".into(), conflict_policy: Default::default() });
    let asked = CreateRun { reference, ..request("1") };
    let run = ours.server().create_run(asked.clone()).await.unwrap().id;
    let gone = |answer: Result<(), ServerError>| assert_eq!(answer, Err(ServerError::RunNotFound(run)));
    gone(theirs.server().get_run(run).await.map(drop));
    gone(theirs.server().await_run(run, Duration::ZERO).await.map(drop));
    gone(theirs.server().list_transitions(run).await.map(drop));
    gone(theirs.server().cancel_run(run, None).await);
    assert_eq!(try_claim(&theirs, "w", run).await, ClaimOutcome::Done);
    assert!(theirs.server().claim_ready(ready_request("w", 10)).await.unwrap().is_empty());
    let found = theirs.server().get_run_by_reference(&workflow(), "order-1").await;
    assert!(matches!(found, Err(ServerError::ReferenceNotFound { .. })), "{found:?}");
    let second = theirs.server().create_run(asked).await.unwrap();
    assert!(!second.existed && second.id != run);
    let mut pass = claim(&ours, "w", run).await;
    let report = pass.next(vec![Transition::Completed { output: None }]);
    gone(theirs.server().report(report).await.map(drop));
    let names = theirs.server().list_workers().await.unwrap().into_iter().map(|worker| worker.holds.len());
    assert_eq!(names.sum::<usize>(), 0);
    let held = theirs.server().refresh_runs(&Name::new("w"), &[pass.claim()], LEASE).await.unwrap();
    assert_eq!(held, [aiki_core::server_client::ClaimStatus::Lost]);
}

pub async fn unknown_runs_and_references_are_not_found(harness: &impl ServerHarness) {
    let client = harness.client();
    let nobody = RunId::from_bits(77 << 24);
    assert_eq!(client.server().get_run(nobody).await, Err(ServerError::RunNotFound(nobody)));
    assert_eq!(client.server().await_run(nobody, LONG).await, Err(ServerError::RunNotFound(nobody)));
    let expected = ServerError::ReferenceNotFound { workflow: workflow(), reference_id: "none".into() };
    assert_eq!(client.server().get_run_by_reference(&workflow(), "none").await, Err(expected));
}
