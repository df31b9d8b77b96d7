//! Claims and leases.

use std::time::Duration;

use aiki_core::name::WorkflowKey;
use aiki_core::rank::HEAD_START_MS;
use aiki_core::run::plan::CreateRun;
use aiki_core::run::{QueuedReason, RunOptions};
use aiki_core::server_client::{ClaimOutcome, ClaimReady, ClaimRef, ClaimRuns, ClaimStatus};
use aiki_core::{Name, Priority, RunId, RunState, ServerError};

use crate::server::{LEASE, Pass, ServerHarness, claim, create, ready_request, request, try_claim};

pub async fn two_workers_fight_and_one_wins(harness: &impl ServerHarness) {
    let client = harness.client();
    for _ in 0..10 {
        let run = create(&client).await;
        let fight = |worker: &'static str| {
            let client = client.clone();
            tokio::spawn(async move { try_claim(&client, worker, run).await })
        };
        let (left, right) = (fight("left"), fight("right"));
        let answers = [left.await.unwrap(), right.await.unwrap()];
        let granted = answers.iter().filter(|answer| matches!(answer, ClaimOutcome::Granted(_))).count();
        let owned = answers.iter().filter(|answer| matches!(answer, ClaimOutcome::Owned { .. })).count();
        assert_eq!((granted, owned), (1, 1), "{answers:?}");
    }
}

pub async fn a_claimed_run_is_owned_and_an_ended_one_is_done(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    let pass = claim(&client, "first", run).await;
    assert_eq!(pass.claimed.lease, LEASE);
    assert_eq!(pass.claimed.record.state, RunState::Running);
    assert!(pass.claimed.record.started_at.is_some());
    harness.advance(Duration::from_secs(10)).await;
    match try_claim(&client, "second", run).await {
        ClaimOutcome::Owned { remaining } => {
            assert!(remaining > Duration::ZERO && remaining <= Duration::from_secs(20), "{remaining:?}");
        }
        other => panic!("{other:?}"),
    }
    pass.finish().await;
    assert_eq!(try_claim(&client, "second", run).await, ClaimOutcome::Done);
}

pub async fn answers_come_in_the_order_of_the_request(harness: &impl ServerHarness) {
    let client = harness.client();
    let (taken, free) = (create(&client).await, create(&client).await);
    let _pass = claim(&client, "first", taken).await;
    let nobody = RunId::from_bits(77 << 24);
    let runs = vec![nobody, taken, free, free];
    let answers = client.server().claim_runs(ClaimRuns { worker: Name::new("second"), runs, lease: LEASE }).await;
    let answers = answers.unwrap();
    assert!(
        matches!(
            answers.as_slice(),
            [
                ClaimOutcome::Done,
                ClaimOutcome::Owned { .. },
                ClaimOutcome::Granted(claimed),
                ClaimOutcome::Owned { .. }
            ] if claimed.record.id == free
        ),
        "{answers:?}"
    );
}

pub async fn a_claim_whose_answer_was_lost_is_granted_again(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    let mut lost = claim(&client, "w", run).await;
    let mut again = claim(&client, "w", run).await;
    assert!(again.claimed.epoch > lost.claimed.epoch, "the first claim is void");
    assert_eq!(lost.try_report(vec![lost.open(0)]).await, Err(ServerError::ClaimLost(run)));
    // Once something is written under it, the claim stands.
    again.report(vec![again.open(0)]).await;
    assert!(matches!(try_claim(&client, "w", run).await, ClaimOutcome::Owned { .. }));
    again.finish().await;
}

/// How long an announced run is left to those who listen.
const HEAD_START: Duration = Duration::from_secs(1);

pub async fn an_announced_run_is_left_to_those_who_listen_for_a_second(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    harness.recorder().announced(run, 1).await;
    harness.advance(HEAD_START - Duration::from_millis(100)).await;
    assert_eq!(client.server().claim_ready(ready_request("w", 10)).await.unwrap(), []);
    harness.advance(Duration::from_millis(100)).await;
    let claimed = client.server().claim_ready(ready_request("w", 10)).await.unwrap();
    assert_eq!(claimed.iter().map(|claimed| claimed.record.id).collect::<Vec<_>>(), [run]);
}

pub async fn ready_runs_come_by_urgency_and_then_by_age(harness: &impl ServerHarness) {
    let client = harness.client();
    let start = async |priority| client.server().create_run(CreateRun { priority, ..request("1") }).await.unwrap().id;
    let ancient = start(Priority::Low).await;
    // More than two steps of priority are worth: nobody overtakes it any more.
    harness.advance(Duration::from_millis(2 * HEAD_START_MS + 1_000)).await;
    let old = start(Priority::Low).await;
    harness.advance(Duration::from_secs(1)).await;
    let low = start(Priority::Low).await;
    let normal = start(Priority::Normal).await;
    let (high, high_too) = (start(Priority::High).await, start(Priority::High).await);
    harness.advance(HEAD_START).await;
    let ids = async |limit| -> Vec<RunId> {
        let claimed = client.server().claim_ready(ready_request("w", limit)).await.unwrap();
        claimed.into_iter().map(|claimed| claimed.record.id).collect()
    };
    let mut found = ids(3).await;
    found.extend(ids(10).await);
    assert_eq!(found, vec![ancient, high, high_too, normal, old, low]);
    assert!(ids(10).await.is_empty(), "nothing is given twice");
}

pub async fn ready_runs_of_other_versions_and_pools_are_left_alone(harness: &impl ServerHarness) {
    let client = harness.client();
    let pool = |pool: &str| Some(RunOptions { retry: None, pool: Some(Name::new(pool)) });
    let start = async |asked| client.server().create_run(asked).await.unwrap().id;
    let plain = start(request("1")).await;
    let gpu = start(CreateRun { options: pool("gpu"), ..request("1") }).await;
    start(CreateRun { options: pool("arm"), ..request("1") }).await;
    start(CreateRun { workflow: WorkflowKey::user("orders", "2.0.0"), ..request("1") }).await;
    harness.advance(HEAD_START).await;
    let ids = async |asked: ClaimReady| -> Vec<RunId> {
        let claimed = client.server().claim_ready(asked).await.unwrap();
        claimed.into_iter().map(|claimed| claimed.record.id).collect()
    };
    assert_eq!(ids(ready_request("w", 10)).await, [plain]);
    assert_eq!(ids(ClaimReady { pools: vec![Name::new("gpu")], ..ready_request("w", 10) }).await, [gpu]);
}

pub async fn an_expired_lease_is_recovered_and_announced(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    harness.recorder().announced(run, 1).await;
    let first = claim(&client, "first", run).await;
    harness.advance(LEASE + Duration::from_millis(1)).await;
    harness.recorder().announced(run, 2).await;
    let state = client.server().get_run(run).await.unwrap().state;
    assert_eq!(state, RunState::Queued { reason: QueuedReason::Recovery });
    let second = claim(&client, "second", run).await;
    assert!(second.claimed.epoch > first.claimed.epoch);
}

pub async fn a_refreshed_lease_lives_on(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    let pass = claim(&client, "first", run).await;
    for _ in 0..4 {
        harness.advance(LEASE / 2).await;
        let answers = client.server().refresh_runs(&Name::new("first"), &[pass.claim()], LEASE).await.unwrap();
        assert_eq!(answers, [ClaimStatus::Held]);
    }
    assert!(matches!(try_claim(&client, "second", run).await, ClaimOutcome::Owned { .. }));
    pass.finish().await;
}

pub async fn a_refresh_of_a_lost_claim_says_so(harness: &impl ServerHarness) {
    let client = harness.client();
    let worker = Name::new("first");
    let (lost, held) = (create(&client).await, create(&client).await);
    let lost = claim(&client, "first", lost).await;
    harness.advance(LEASE + Duration::from_millis(1)).await;
    let _taken = claim(&client, "second", lost.run()).await;
    let held = claim(&client, "first", held).await;
    let unknown = ClaimRef { run: RunId::from_bits(77 << 24), epoch: 1 };
    let claims = [lost.claim(), held.claim(), unknown];
    let answers = client.server().refresh_runs(&worker, &claims, LEASE).await.unwrap();
    assert_eq!(answers, [ClaimStatus::Lost, ClaimStatus::Held, ClaimStatus::Lost]);
}

pub async fn a_released_run_is_ready_at_once(harness: &impl ServerHarness) {
    let client = harness.client();
    let worker = Name::new("first");
    let run = create(&client).await;
    harness.recorder().announced(run, 1).await;
    let pass = claim(&client, "first", run).await;
    assert_eq!(client.server().release_runs(&worker, &[pass.claim()]).await.unwrap(), [ClaimStatus::Held]);
    harness.recorder().announced(run, 2).await;
    assert_eq!(client.server().release_runs(&worker, &[pass.claim()]).await.unwrap(), [ClaimStatus::Lost]);
    Pass::of(&client, crate::server::as_claimed(try_claim(&client, "second", run).await)).finish().await;
}

pub async fn workers_are_listed_with_what_they_hold(harness: &impl ServerHarness) {
    let client = harness.client();
    let (one, two) = (create(&client).await, create(&client).await);
    let first = claim(&client, "alpha", one).await;
    let _second = claim(&client, "beta", two).await;
    let holds = async || -> Vec<(String, Vec<RunId>)> {
        let workers = client.server().list_workers().await.unwrap();
        let runs = |holds: &[(RunId, aiki_core::Timestamp)]| holds.iter().map(|(run, _)| *run).collect();
        workers.iter().map(|worker| (worker.name.to_string(), runs(&worker.holds))).collect()
    };
    assert_eq!(holds().await, [("alpha".to_owned(), vec![one]), ("beta".to_owned(), vec![two])]);
    first.finish().await;
    assert_eq!(holds().await, [("alpha".to_owned(), vec![]), ("beta".to_owned(), vec![two])]);
    harness.advance(Duration::from_secs(1_200)).await;
    assert!(holds().await.is_empty(), "workers that hold nothing are forgotten after a while");
}
