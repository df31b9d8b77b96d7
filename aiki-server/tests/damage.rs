//! Single rows that cannot be read: they stop nobody else.
#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, reason = "for tests")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aiki_conformance::server::{LEASE, Pass, ServerHarness, claim, create, ready_request, request, try_claim};
use aiki_core::run::RunStatus;
use aiki_core::run::plan::CreateRun;
use aiki_core::server_client::{ClaimOutcome, ClaimRef, ClaimRuns, ClaimStatus};
use aiki_core::{Client, Name, RunId, ServerError, Transition};
use rusqlite::{Connection, params};
use support::{Kept, ManualClock};

/// Overwrites columns of runs in a database that nobody has open.
fn damage(path: &Path, columns: &str, runs: &[RunId]) {
    let database = Connection::open(path).unwrap();
    for run in runs {
        let sql = format!("UPDATE runs SET {columns} WHERE id = ?1");
        assert_eq!(database.execute(&sql, params![run.to_bytes()]).unwrap(), 1);
    }
}

async fn claim_both(client: &Client, runs: [RunId; 2]) -> Vec<ClaimOutcome> {
    let request = ClaimRuns { worker: Name::new("w"), runs: runs.to_vec(), lease: LEASE };
    client.server().claim_runs(request).await.unwrap()
}

fn is_granted(outcome: &ClaimOutcome, run: RunId) -> bool {
    matches!(outcome, ClaimOutcome::Granted(claimed) if claimed.record.id == run)
}

#[tokio::test]
async fn a_claim_is_granted_beside_a_history_that_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("aiki.db");
    let clock = Arc::<ManualClock>::default();
    let first = Kept::sqlite_at(&path, clock.clone()).await;
    let client = first.client();
    let (bad, good) = (create(&client).await, create(&client).await);
    first.server().close().await;
    damage(&path, "tail = 'x'", &[bad]);

    let second = Kept::sqlite_at(&path, clock).await;
    let client = second.client();
    second.advance(Duration::from_secs(1)).await;
    let claimed = client.server().claim_ready(ready_request("w", 10)).await.unwrap();
    assert_eq!(claimed.iter().map(|claimed| claimed.record.id).collect::<Vec<_>>(), [good]);
    // The bad one waits for its lease to lapse: it does not go round in a circle.
    assert!(client.server().claim_ready(ready_request("w", 10)).await.unwrap().is_empty());
    assert!(matches!(try_claim(&client, "v", bad).await, ClaimOutcome::Owned { .. }));
    // Both are ready again later, and delivered together.
    second.advance(LEASE * 2).await;
    second.recorder().announced(bad, 2).await;
    let answers = claim_both(&client, [bad, good]).await;
    assert_eq!(answers[0], ClaimOutcome::Owned { remaining: LEASE });
    assert!(is_granted(&answers[1], good), "{answers:?}");
}

#[tokio::test]
async fn claims_and_leases_go_on_beside_a_head_that_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("aiki.db");
    let clock = Arc::<ManualClock>::default();
    let first = Kept::sqlite_at(&path, clock.clone()).await;
    let client = first.client();
    let (bad, worse, good) = (create(&client).await, create(&client).await, create(&client).await);
    first.server().close().await;
    damage(&path, "head = 'x'", &[bad, worse]);

    let second = Kept::sqlite_at(&path, clock).await;
    let client = second.client();
    second.recorder().announced(good, 1).await;
    second.advance(Duration::from_secs(1)).await;
    // The unreadable ones come first in the order, but do not take its place.
    let claimed = client.server().claim_ready(ready_request("w", 1)).await.unwrap();
    assert_eq!(claimed.iter().map(|claimed| claimed.record.id).collect::<Vec<_>>(), [good]);
    let claims = [ClaimRef { run: bad, epoch: 1 }, ClaimRef { run: good, epoch: 1 }];
    let worker = Name::new("w");
    let kept = client.server().refresh_runs(&worker, &claims, LEASE).await;
    assert_eq!(kept, Ok(vec![ClaimStatus::Lost, ClaimStatus::Held]));
    let released = client.server().release_runs(&worker, &claims).await;
    assert_eq!(released, Ok(vec![ClaimStatus::Lost, ClaimStatus::Held]));
    // Neither run nor acknowledged.
    let answers = claim_both(&client, [bad, good]).await;
    assert_eq!(answers[0], ClaimOutcome::Owned { remaining: LEASE });
    assert!(is_granted(&answers[1], good), "{answers:?}");
    let error = client.server().get_run(bad).await.unwrap_err();
    assert!(matches!(&error, ServerError::Internal(text) if text.contains(&bad.to_string())), "{error}");
}

#[tokio::test]
async fn timers_go_on_beside_heads_that_cannot_be_read() {
    // More than the timer moves in one go.
    const BAD: usize = 1_010;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("aiki.db");
    let clock = Arc::<ManualClock>::default();
    let first = Kept::sqlite_at(&path, clock.clone()).await;
    let client = first.client();
    let mut bad = Vec::new();
    for batch in 0..BAD / 10 {
        let start = |n: usize| {
            let client = client.clone();
            tokio::spawn(async move { client.server().create_run(request(&(batch * 10 + n).to_string())).await })
        };
        for one in (0..10).map(start).collect::<Vec<_>>() {
            bad.push(one.await.unwrap().unwrap().id);
        }
    }
    let delayed = CreateRun { delay: Duration::from_secs(60), ..request("1") };
    let delayed = client.server().create_run(delayed).await.unwrap().id;
    let asleep = create(&client).await;
    let mut pass = claim(&client, "w", asleep).await;
    pass.report(vec![Pass::sleep(0, Duration::from_secs(60)), Transition::Suspended]).await;
    first.server().close().await;
    drop((client, pass));
    damage(&path, "head = 'x', due_at = 1", &bad);

    let second = Kept::sqlite_at(&path, clock).await;
    second.advance(Duration::from_secs(61)).await;
    let client = second.client();
    for run in [delayed, asleep] {
        assert_eq!(client.server().get_run(run).await.unwrap().state.status(), RunStatus::Queued);
    }
}

#[tokio::test]
async fn timers_go_on_beside_a_child_whose_parent_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("aiki.db");
    let clock = Arc::<ManualClock>::default();
    let first = Kept::sqlite_at(&path, clock.clone()).await;
    let client = first.client();
    let parent = create(&client).await;
    let mut pass = claim(&client, "w", parent).await;
    let start = aiki_core::report::ChildStart {
        time_limit: Some(Duration::from_secs(30)),
        ..aiki_conformance::server::child_start("1")
    };
    pass.report(vec![Pass::start_child(0, start), Pass::wait_for_child(0, 0, None, None), Transition::Suspended]).await;
    let delayed = CreateRun { delay: Duration::from_secs(60), ..request("1") };
    let delayed = client.server().create_run(delayed).await.unwrap().id;
    first.server().close().await;
    drop((client, pass));
    damage(&path, "head = 'x'", &[parent]);

    let second = Kept::sqlite_at(&path, clock).await;
    second.clock.step(Duration::from_secs(61));
    // `advance` insists on success: ask the server itself.
    let _ = second.server().run_due_timers().await;
    assert_eq!(second.client().server().get_run(delayed).await.unwrap().state.status(), RunStatus::Queued);
}
