//! What the server does when the time has come.

use std::time::Duration;

use aiki_core::run::{FailureCause, QueuedReason, RunStatus, SleepState, TaskStatus};
use aiki_core::server_client::ClaimOutcome;
use aiki_core::{ErrorObject, RunState, Transition};

use crate::server::{Pass, ServerHarness, claim, create, try_claim};

const MINUTE: Duration = Duration::from_secs(60);

pub async fn a_sleep_ends_on_time_and_not_before(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    let mut pass = claim(&client, "w", run).await;
    let at = harness.now();
    pass.report(vec![Pass::sleep(0, MINUTE), Transition::Suspended]).await;
    let state = client.server().get_run(run).await.unwrap().state;
    assert!(matches!(&state, RunState::Sleeping { name, .. } if name == "nap-0"), "{state:?}");
    let announced = harness.recorder().count(run);
    harness.advance((MINUTE - Duration::from_millis(1)).saturating_sub(harness.now().since(at))).await;
    assert_eq!(try_claim(&client, "w", run).await, ClaimOutcome::Done);
    harness.advance(Duration::from_millis(1)).await;
    harness.recorder().announced(run, announced + 1).await;
    let record = client.server().get_run(run).await.unwrap();
    assert_eq!(record.state, RunState::Queued { reason: QueuedReason::Wakeup });
    assert!(matches!(record.sleeps[0].state, SleepState::Completed { duration_ms: 60_000..=60_050, .. }), "{record:?}");
}

pub async fn two_sleeps_that_were_joined_end_together(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    let mut pass = claim(&client, "w", run).await;
    pass.report(vec![Pass::sleep(0, MINUTE), Pass::sleep(1, MINUTE), Transition::Suspended]).await;
    harness.advance(MINUTE).await;
    let pass = claim(&client, "w", run).await;
    let ended = |sleep: &aiki_core::run::SleepRecord| matches!(sleep.state, SleepState::Completed { .. });
    assert!(pass.claimed.record.sleeps.iter().all(ended), "{:?}", pass.claimed.record.sleeps);
    assert_eq!(pass.claimed.record.sleeps.iter().map(|sleep| sleep.settled).collect::<Vec<_>>(), [Some(1), Some(2)]);
}

pub async fn a_parked_task_is_ready_for_its_next_attempt(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    let mut pass = claim(&client, "w", run).await;
    pass.report(vec![pass.open(0)]).await;
    let id = run.task(0);
    let error = ErrorObject::new("E", "not today");
    let parked = Transition::TaskParked { id, attempts: 1, error: error.clone(), retry_in: MINUTE };
    // A sleep beside it, longer: the retry decides.
    pass.report(vec![parked, Pass::sleep(0, MINUTE * 10), Transition::Suspended]).await;
    assert_eq!(try_claim(&client, "w", run).await, ClaimOutcome::Done);
    harness.advance(MINUTE).await;
    let mut pass = claim(&client, "w", run).await;
    assert_eq!(pass.claimed.record.tasks[0].state.status(), TaskStatus::AwaitingRetry);
    pass.report(vec![Transition::TaskRestarted { id, attempts: 2 }]).await;
    pass.report(vec![Transition::TaskFailed { id, attempts: 2, error }]).await;
    let record = client.server().get_run(run).await.unwrap();
    assert_eq!((record.tasks[0].state.status(), record.tasks[0].state.attempts()), (TaskStatus::Failed, 2));
    pass.finish().await;
}

pub async fn a_retry_of_the_run_discards_failed_tasks(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    let mut pass = claim(&client, "w", run).await;
    pass.report(vec![pass.open(0), pass.open(1)]).await;
    let error = ErrorObject::new("E", "no");
    let failed = Transition::TaskFailed { id: run.task(1), attempts: 1, error: error.clone() };
    let retry = Transition::RetryScheduled { cause: FailureCause::Task(run.task(1), Some(error)), retry_in: MINUTE };
    pass.report(vec![pass.complete(0, "1"), failed, retry]).await;
    assert_eq!(client.server().get_run(run).await.unwrap().state.status(), RunStatus::AwaitingRetry);
    harness.advance(MINUTE).await;
    let pass = claim(&client, "w", run).await;
    let record = &pass.claimed.record;
    assert_eq!(record.attempts, 2);
    let tasks: Vec<_> = record.tasks.iter().map(|task| task.state.status()).collect();
    assert_eq!(tasks, [TaskStatus::Completed, TaskStatus::Discarded]);
    pass.finish().await;
}

pub async fn a_ready_run_that_nobody_takes_is_announced_again(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    harness.recorder().announced(run, 1).await;
    harness.advance(Duration::from_millis(5_100)).await;
    harness.recorder().announced(run, 2).await;
    // Ever more rarely.
    harness.advance(Duration::from_millis(5_100)).await;
    harness.recorder().announced(run, 3).await;
    harness.advance(Duration::from_millis(5_100)).await;
    assert_eq!(harness.recorder().count(run), 3);
}
