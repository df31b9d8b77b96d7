//! Reports of workers.

use std::time::Duration;

use aiki_core::run::{RunStatus, TaskStatus};
use aiki_core::{Payload, RunState, ServerError, Transition};

use crate::server::{LEASE, ServerHarness, claim, create};

pub async fn the_old_epoch_is_refused_after_a_reclaim(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    let mut first = claim(&client, "first", run).await;
    harness.advance(LEASE + Duration::from_millis(1)).await;
    let mut second = claim(&client, "second", run).await;
    let open = first.open(0);
    assert_eq!(first.try_report(vec![open]).await, Err(ServerError::ClaimLost(run)));
    assert!(client.server().get_run(run).await.unwrap().tasks.is_empty());
    second.report(vec![second.open(0)]).await;
}

pub async fn a_repeated_report_changes_nothing(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    let mut pass = claim(&client, "w", run).await;
    let transitions = vec![pass.open(0)];
    let report = pass.next(transitions);
    let first = client.server().report(report.clone()).await.unwrap();
    let before = client.server().get_run(run).await.unwrap();
    assert_eq!(client.server().report(report).await.unwrap(), first);
    assert_eq!(client.server().get_run(run).await.unwrap(), before);
    // The last report of a run, too, whose claim is gone by then.
    let last = pass.next(vec![Transition::Completed { output: None }]);
    let ended = client.server().report(last.clone()).await.unwrap();
    assert_eq!(client.server().report(last).await.unwrap(), ended);
}

pub async fn an_older_report_is_out_of_order(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    let mut pass = claim(&client, "w", run).await;
    let transitions = vec![pass.open(0)];
    let old = pass.next(transitions);
    pass.report(vec![pass.open(0)]).await;
    let refused = client.server().report(old).await;
    assert!(matches!(refused, Err(ServerError::Invalid(_))), "{refused:?}");
    assert_eq!(client.server().get_run(run).await.unwrap().tasks.len(), 1);
}

pub async fn an_illegal_report_changes_nothing(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    let mut pass = claim(&client, "w", run).await;
    let before = client.server().get_run(run).await.unwrap();
    let illegal = [
        // A legal beginning does not help.
        vec![pass.open(0), pass.complete(7, "1")],
        vec![pass.open(1)],
        vec![Transition::Suspended],
        vec![Transition::Completed { output: None }, pass.open(0)],
    ];
    for transitions in illegal {
        let refused = pass.try_report(transitions).await;
        assert!(matches!(refused, Err(ServerError::IllegalTransition(_))), "{refused:?}");
        assert_eq!(client.server().get_run(run).await.unwrap(), before);
    }
    pass.report(vec![pass.open(0)]).await;
}

pub async fn a_whole_run_is_recorded(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    let mut pass = claim(&client, "w", run).await;
    pass.report(vec![pass.open(0)]).await;
    let revision = pass.report(vec![pass.complete(0, "{\"paid\": true}"), pass.open(1)]).await.revision;
    let output = Payload::from_json("[1,2]").ok();
    let receipt = pass.report(vec![pass.complete(1, "null"), Transition::Completed { output: output.clone() }]).await;
    assert_eq!(receipt.revision, revision + 1, "the run itself moved once");
    let record = client.server().get_run(run).await.unwrap();
    assert_eq!(record.state, RunState::Completed { output });
    assert_eq!(record.revision, receipt.revision);
    let tasks: Vec<_> = record.tasks.iter().map(|task| (task.name.as_str(), task.state.status())).collect();
    assert_eq!(tasks, [("task-0", TaskStatus::Completed), ("task-1", TaskStatus::Completed)]);
    assert_eq!(record.tasks.iter().map(|task| task.settled).collect::<Vec<_>>(), [Some(1), Some(2)]);
}

pub async fn a_long_history_comes_back_whole(harness: &impl ServerHarness) {
    const TASKS: u32 = 40;
    let client = harness.client();
    let run = create(&client).await;
    let mut pass = claim(&client, "first", run).await;
    for task in 0..TASKS {
        pass.report(vec![pass.open(task)]).await;
        // Each of them fills a few hundred bytes, the last a lot.
        let size = if task + 1 == TASKS { 100_000.min(harness.payload_limit() / 2) } else { 300 };
        let output = format!("\"{task}-{}\"", "x".repeat(size));
        pass.report(vec![pass.complete(task, &output)]).await;
    }
    let record = client.server().get_run(run).await.unwrap();
    assert_eq!(record.tasks.len(), TASKS as usize);
    for (ordinal, task) in record.tasks.iter().enumerate() {
        assert_eq!((task.name.as_str(), task.settled), (format!("task-{ordinal}").as_str(), Some(ordinal as u64 + 1)));
    }
    harness.advance(LEASE + Duration::from_millis(1)).await;
    let again = claim(&client, "second", run).await;
    assert_eq!(again.claimed.record.tasks, record.tasks, "a claim brings the whole history");
    again.finish().await;
}

pub async fn a_report_over_the_limit_is_refused(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    let mut pass = claim(&client, "w", run).await;
    let large = Payload::from_json(format!("\"{}\"", "x".repeat(harness.payload_limit()))).ok();
    let refused = pass.try_report(vec![Transition::Completed { output: large }]).await;
    assert!(matches!(refused, Err(ServerError::Invalid(_))), "{refused:?}");
    assert_eq!(client.server().get_run(run).await.unwrap().state.status(), RunStatus::Running);
    pass.finish().await;
}
