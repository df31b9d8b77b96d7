//! Starting runs.

use std::time::Duration;

use aiki_core::hash::input_hash;
use aiki_core::name::WorkflowKey;
use aiki_core::run::plan::CreateRun;
use aiki_core::run::{QueuedReason, Reference, RunOptions, RunStatus};
use aiki_core::server_client::{ClaimOutcome, CreatedRun};
use aiki_core::{ConflictPolicy, Name, Priority, RetryStrategy, RunState, ServerError};

use crate::server::{ServerHarness, create, request, try_claim, workflow};

fn with_reference(input: &str, id: &str, policy: ConflictPolicy) -> CreateRun {
    CreateRun { reference: Some(Reference { id: id.into(), conflict_policy: policy }), ..request(input) }
}

pub async fn a_new_run_is_queued_and_announced(harness: &impl ServerHarness) {
    let client = harness.client();
    let options = Some(RunOptions { retry: None, pool: Some(Name::new("gpu")) });
    let asked = CreateRun { options: options.clone(), priority: Priority::High, ..request("{\"a\": 1}") };
    let CreatedRun { id, existed } = client.server().create_run(asked).await.unwrap();
    assert!(!existed);
    let record = client.server().get_run(id).await.unwrap();
    assert_eq!(record.state, RunState::Queued { reason: QueuedReason::New });
    assert_eq!(record.input.unwrap().as_str(), "{\"a\": 1}", "the input is kept as it was sent");
    assert_eq!((record.options, record.attempts, record.started_at), (options, 1, None));
    let ready = harness.recorder().announced(id, 1).await;
    assert_eq!((ready.workflow, ready.pool, ready.priority), (workflow(), Some(Name::new("gpu")), Priority::High));
    assert_eq!(ready.namespace.as_str(), "default");
}

pub async fn the_same_reference_finds_the_same_run(harness: &impl ServerHarness) {
    let client = harness.client();
    let start = || client.server().create_run(with_reference("1", "order-1", ConflictPolicy::Error));
    let first = start().await.unwrap();
    let second = start().await.unwrap();
    assert_eq!(second, CreatedRun { id: first.id, existed: true });
    let found = client.server().get_run_by_reference(&workflow(), "order-1").await.unwrap();
    assert_eq!((found.id, found.reference_id.as_deref()), (first.id, Some("order-1")));
}

pub async fn a_reference_with_another_input_is_refused(harness: &impl ServerHarness) {
    let client = harness.client();
    let first = client.server().create_run(with_reference("1", "order-1", ConflictPolicy::Error)).await.unwrap();
    let second = client.server().create_run(with_reference("2", "order-1", ConflictPolicy::Error)).await;
    assert_eq!(second, Err(ServerError::ReferenceConflict { reference_id: "order-1".into(), run: first.id }));
}

pub async fn a_reference_with_another_input_finds_the_run_when_asked_to(harness: &impl ServerHarness) {
    let client = harness.client();
    let policy = ConflictPolicy::ReturnExisting;
    let first = client.server().create_run(with_reference("1", "order-1", policy)).await.unwrap();
    let second = client.server().create_run(with_reference("2", "order-1", policy)).await.unwrap();
    assert_eq!(second, CreatedRun { id: first.id, existed: true });
}

pub async fn an_older_hash_of_the_same_input_counts_as_equal(harness: &impl ServerHarness) {
    let client = harness.client();
    let first = client.server().create_run(with_reference("1", "order-1", ConflictPolicy::Error)).await.unwrap();
    let asked = CreateRun {
        deprecated_hashes: vec![input_hash(Some("1")).unwrap()],
        ..with_reference("2", "order-1", ConflictPolicy::Error)
    };
    assert_eq!(client.server().create_run(asked).await.unwrap(), CreatedRun { id: first.id, existed: true });
}

pub async fn references_belong_to_one_version(harness: &impl ServerHarness) {
    let client = harness.client();
    let first = client.server().create_run(with_reference("1", "order-1", ConflictPolicy::Error)).await.unwrap();
    let other = CreateRun {
        workflow: WorkflowKey::user("orders", "2.0.0"),
        ..with_reference("2", "order-1", ConflictPolicy::Error)
    };
    let second = client.server().create_run(other).await.unwrap();
    assert_ne!(second.id, first.id);
    assert!(!second.existed);
}

pub async fn a_delayed_run_is_ready_on_time_and_not_before(harness: &impl ServerHarness) {
    let client = harness.client();
    let asked = CreateRun { delay: Duration::from_secs(60), ..request("1") };
    let at = harness.now();
    let run = client.server().create_run(asked).await.unwrap().id;
    let record = client.server().get_run(run).await.unwrap();
    assert_eq!(record.state.status(), RunStatus::Scheduled);
    harness.advance(at.after(Duration::from_millis(59_999)).since(harness.now())).await;
    assert_eq!(try_claim(&client, "w", run).await, ClaimOutcome::Done);
    assert_eq!(harness.recorder().count(run), 0);
    harness.advance(Duration::from_millis(1)).await;
    harness.recorder().announced(run, 1).await;
    assert!(matches!(try_claim(&client, "w", run).await, ClaimOutcome::Granted(_)));
}

pub async fn concurrent_starts_with_one_reference_make_one_run(harness: &impl ServerHarness) {
    let client = harness.client();
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let client = client.clone();
            let asked = with_reference("1", "order-1", ConflictPolicy::Error);
            tokio::spawn(async move { client.server().create_run(asked).await.unwrap() })
        })
        .collect();
    let mut created = Vec::new();
    for task in tasks {
        created.push(task.await.unwrap());
    }
    assert!(created.iter().all(|run| run.id == created[0].id), "{created:?}");
    assert_eq!(created.iter().filter(|run| !run.existed).count(), 1, "{created:?}");
}

pub async fn a_payload_over_the_limit_is_refused_before_it_is_stored(harness: &impl ServerHarness) {
    let client = harness.client();
    let fitting = format!("\"{}\"", "x".repeat(harness.payload_limit() - 2));
    client.server().create_run(request(&fitting)).await.unwrap();
    let large = format!("\"{}\"", "x".repeat(harness.payload_limit() - 1));
    let refused = client.server().create_run(with_reference(&large, "order-1", ConflictPolicy::Error)).await;
    assert!(matches!(refused, Err(ServerError::Invalid(_))), "{refused:?}");
    let found = client.server().get_run_by_reference(&workflow(), "order-1").await;
    assert!(matches!(found, Err(ServerError::ReferenceNotFound { .. })), "{found:?}");
}

pub async fn names_and_retries_that_cannot_be_used_are_refused(harness: &impl ServerHarness) {
    let client = harness.client();
    let never_tried = RetryStrategy::fixed(0, Duration::from_secs(1));
    let bad = [
        CreateRun { workflow: WorkflowKey::user("", "1"), ..request("1") },
        CreateRun { workflow: WorkflowKey::user("w", "v".repeat(257)), ..request("1") },
        with_reference("1", "", ConflictPolicy::Error),
        CreateRun { options: Some(RunOptions { retry: Some(never_tried), pool: None }), ..request("1") },
    ];
    for asked in bad {
        let refused = client.server().create_run(asked.clone()).await;
        assert!(matches!(refused, Err(ServerError::Invalid(_))), "{asked:?}: {refused:?}");
    }
    // The server is well after that.
    create(&client).await;
}
