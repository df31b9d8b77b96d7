//! What a recorder gets to see.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use aiki_core::{Failure, RetryStrategy, Run, Task, TaskContext, Workflow, WorkflowVersion};
use common::breakable::Breakable;
use common::{House, start, until};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use tokio::time::sleep;

/// All values by name and labels, the worker's own left out: `aiki_worker_runs_total outcome=completed`.
fn look(snapshotter: &Snapshotter) -> BTreeMap<String, f64> {
    let mut seen = BTreeMap::new();
    for (key, _, _, value) in snapshotter.snapshot().into_vec() {
        let key = key.key();
        // A server in the same process counts as well, when it is built to.
        if !key.name().starts_with("aiki_worker_") {
            continue;
        }
        let labels: Vec<_> = key.labels().map(|label| (label.key().to_owned(), label.value().to_owned())).collect();
        assert_eq!(labels[0], ("worker".to_owned(), "w".to_owned()), "the id and not the name of this start");
        let labels = labels[1..].iter().map(|(key, value)| format!(" {key}={value}"));
        let name = std::iter::once(key.name().to_owned()).chain(labels).collect::<String>();
        let value = match value {
            DebugValue::Counter(value) => value as f64,
            DebugValue::Gauge(value) => value.into_inner(),
            DebugValue::Histogram(_) => panic!("{name} is a histogram"),
        };
        seen.insert(name, value);
    }
    seen
}

/// Fails its first attempt of the task if told so, and for good if told so.
fn picky() -> WorkflowVersion<String, ()> {
    let task = Task::new("try", |cx: TaskContext, what: String| async move {
        match what.as_str() {
            "bad" => Err(Failure::non_retryable("Bad", "bad")),
            "flaky" if cx.attempt() == 1 => Err(Failure::new("Flaky", "flaky")),
            _ => Ok(()),
        }
    })
    .retry(RetryStrategy::fixed(3, Duration::from_secs(5)));
    Workflow::new("picky").version("1.0.0", move |run: Run, what: String| {
        let task = task.clone();
        async move { Ok::<_, Failure>(task.start(&run, what).await?) }
    })
}

#[tokio::test(start_paused = true)]
async fn runs_tasks_claims_and_deliveries_are_counted_by_what_became_of_them() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let house = House::new().await;
    let worker = house.worker("w").build().unwrap();
    worker.workflow_registry().add(picky());
    start(&worker);
    for what in ["good", "good", "flaky", "bad"] {
        let _ = picky().start(&house.client, what.to_owned()).await.unwrap().wait().await;
    }
    sleep(Duration::from_secs(2)).await;
    let seen = look(&snapshotter);
    let expected = [
        ("aiki_worker_runs_total outcome=completed", 3.0),
        ("aiki_worker_runs_total outcome=failed", 1.0),
        ("aiki_worker_runs_total outcome=suspended", 1.0),
        ("aiki_worker_task_attempts_total outcome=completed", 3.0),
        ("aiki_worker_task_attempts_total outcome=failed", 1.0),
        ("aiki_worker_task_attempts_total outcome=parked", 1.0),
        ("aiki_worker_claims_total answer=granted", 5.0),
        ("aiki_worker_deliveries_total through=subscriber", 5.0),
        ("aiki_worker_active_runs", 0.0),
        ("aiki_worker_slots", 4.0),
        ("aiki_worker_held_deliveries", 0.0),
        ("aiki_worker_oldest_lease_seconds", 0.0),
    ];
    for (name, value) in expected {
        assert_eq!(seen.get(name), Some(&value), "{name} in {seen:#?}");
    }
    assert!(!seen.keys().any(|name| name.contains("error") || name.contains("through=server")), "{seen:#?}");
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn trouble_with_the_transport_is_counted_by_cause_and_way() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let (house, queue) = (House::new().await, Breakable::default());
    let worker = house.worker("w").subscriber(queue.clone()).build().unwrap();
    worker.workflow_registry().add(picky());
    start(&worker);
    sleep(Duration::from_secs(5)).await;
    let before = look(&snapshotter);
    queue.break_down();
    let handle = picky().start(&house.client, "good".to_owned()).await.unwrap();
    handle.wait().await.unwrap();
    until("it is on its backup", || worker.health().on_backup).await;
    let during = look(&snapshotter);
    assert_eq!(during["aiki_worker_on_backup"], 1.0);
    assert_eq!(during["aiki_worker_backup_switches_total to=server"], 1.0);
    assert_eq!(during["aiki_worker_deliveries_total through=server"], 1.0);
    assert!(during["aiki_worker_subscriber_errors_total through=subscriber cause=unavailable"] >= 1.0, "{during:#?}");
    assert!(!during.contains_key("aiki_worker_reconnects_total"), "{during:#?}");
    queue.come_back();
    until("it is back", || !worker.health().on_backup).await;
    sleep(Duration::from_secs(2)).await;
    let after = look(&snapshotter);
    assert_eq!(after["aiki_worker_on_backup"], 0.0);
    assert_eq!(after["aiki_worker_reconnects_total"], 1.0);
    assert_eq!(after["aiki_worker_backup_switches_total to=subscriber"], 1.0);
    // These move with the clock, as proofs do.
    for name in ["aiki_worker_last_consume_timestamp_seconds", "aiki_worker_loop_tick_timestamp_seconds"] {
        assert!(after[name] > before[name] && before[name] > 1.7e9, "{name}: {before:#?} {after:#?}");
    }
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn without_a_backup_failures_and_recoveries_are_counted_as_well() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let (house, queue) = (House::new().await, Breakable::default());
    queue.break_down();
    let worker = house.worker("w").subscriber(queue.clone()).backup_subscriber(false).build().unwrap();
    worker.workflow_registry().add(picky());
    start(&worker);
    sleep(Duration::from_secs(20)).await;
    queue.come_back();
    sleep(Duration::from_secs(40)).await;
    let seen = look(&snapshotter);
    assert!(seen["aiki_worker_subscriber_errors_total through=subscriber cause=unavailable"] >= 3.0, "{seen:#?}");
    assert_eq!(seen["aiki_worker_reconnects_total"], 1.0);
    assert!(!seen.contains_key("aiki_worker_on_backup"), "{seen:#?}");
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_table_in_the_documentation_names_what_is_measured_and_nothing_else() {
    let documented = include_str!("../../docs/metrics.md");
    let source = include_str!("../src/measure.rs");
    let names = |text: &str| -> std::collections::BTreeSet<String> {
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        words.filter(|word| word.starts_with("aiki_worker_")).map(str::to_owned).collect()
    };
    assert_eq!(names(documented), names(source));
}
