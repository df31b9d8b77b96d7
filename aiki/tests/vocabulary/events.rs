use std::time::Duration;

use aiki::prelude::*;
use aiki::{Either, Event, RunState, ServerError, race};
use tokio::time::Instant;

use super::{HOUR, House, until};

const PAID: Event<u64> = Event::new("paid");
const NOTE: Event<String> = Event::new("note");

/// Sums payments until one of 0 comes.
fn sum() -> WorkflowVersion<(), Vec<u64>, Failure> {
    Workflow::new("sum")
        .version("1", |run: Run, (): ()| async move {
            let mut all = Vec::new();
            loop {
                match run.event(&PAID).await {
                    0 => return Ok::<_, Failure>(all),
                    cents => all.push(cents),
                }
            }
        })
        .event(&PAID)
}

#[tokio::test(start_paused = true)]
async fn events_come_early_late_and_in_order() {
    let sum = sum();
    let house = House::with(vec![]).await;
    let handle = sum.start(&house.client, ()).delay(HOUR).await.unwrap();
    for cents in [1, 2] {
        handle.send_event(&PAID, cents).await.unwrap();
    }
    house.worker.workflow_registry().add(&sum);
    until(&handle, |state| matches!(state, RunState::AwaitingEvent { .. })).await;
    handle.send_event(&PAID, 3).reference_id("three").await.unwrap();
    handle.send_event(&PAID, 33).reference_id("three").await.unwrap();
    handle.send_event(&PAID, 0).await.unwrap();
    assert_eq!(handle.wait().await.unwrap(), [1, 2, 3]);
    let late = handle.send_event(&PAID, 4).await.unwrap_err();
    assert!(matches!(late, aiki::SendEventError::Server(ServerError::RunEnded { .. })), "{late}");
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_with_its_timeout_and_a_race_with_its_first() {
    let trial = Workflow::new("trial")
        .version("1", |run: Run, (): ()| async move {
            let first = match run.event_within(&NOTE, HOUR).await {
                Ok(note) => note,
                Err(elapsed) => elapsed.to_string(),
            };
            let second = match race(run.event(&PAID), run.sleep("trial", 14 * HOUR)).await {
                Either::Left(cents) => format!("paid {cents}"),
                Either::Right(_) => "over".to_owned(),
            };
            Ok::<_, Failure>((first, second))
        })
        .event(&PAID)
        .event(&NOTE);
    let house = House::with(vec![trial.register()]).await;
    let (paying, silent) =
        (trial.start(&house.client, ()).await.unwrap(), trial.start(&house.client, ()).await.unwrap());
    let began = Instant::now();
    until(&paying, |state| matches!(state, RunState::Sleeping { .. })).await;
    assert!(began.elapsed() >= HOUR && began.elapsed() < HOUR + Duration::from_secs(1), "{:?}", began.elapsed());
    paying.send_event(&PAID, 700).await.unwrap();
    assert_eq!(paying.wait().await.unwrap().1, "paid 700");
    assert!(began.elapsed() < 2 * HOUR);
    assert_eq!(silent.wait().await.unwrap(), ("nothing came within 3600s".into(), "over".into()));
    assert!(began.elapsed() >= 15 * HOUR);
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn an_event_reaches_a_run_whose_task_is_under_way() {
    let slow = Task::new("slow", |_: TaskContext, (): ()| async move {
        tokio::time::sleep(30 * HOUR).await;
        Ok::<_, Failure>(())
    });
    let interrupted = Workflow::new("interrupted")
        .version("1", move |run: Run, (): ()| {
            let slow = slow.clone();
            async move {
                Ok::<_, Failure>(match race(run.event(&NOTE), slow.start(&run, ())).await {
                    Either::Left(note) => note,
                    Either::Right(_) => "the task won".into(),
                })
            }
        })
        .event(&NOTE);
    let house = House::with(vec![interrupted.register()]).await;
    let handle = interrupted.start(&house.client, ()).await.unwrap();
    until(&handle, |state| matches!(state, RunState::Running)).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let sent = Instant::now();
    handle.send_event(&NOTE, "stop".into()).await.unwrap();
    assert_eq!(handle.wait().await.unwrap(), "stop");
    assert!(sent.elapsed() < Duration::from_secs(1), "{:?}", sent.elapsed());
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn data_of_another_type_fails_the_run_with_its_place() {
    #[derive(Debug, serde::Serialize, serde::Deserialize)]
    struct Old {
        cents: String,
    }
    #[derive(Debug, serde::Serialize, serde::Deserialize)]
    struct New {
        cents: u64,
    }
    const OLD: Event<Old> = Event::new("paid");
    const NEW: Event<New> = Event::new("paid");
    let waits = Workflow::new("waits")
        .version("1", |run: Run, (): ()| async move { Ok::<_, Failure>(run.event(&NEW).await.cents) })
        .event(&NEW);
    let house = House::with(vec![waits.register()]).await;
    let handle = waits.start(&house.client, ()).await.unwrap();
    handle.send_event(&OLD, Old { cents: "seven".into() }).await.unwrap();
    let error = handle.wait().await.unwrap_err().to_string();
    assert!(error.contains("event `paid`") && error.contains("`cents`"), "{error}");
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_not_declared_is_neither_sent_nor_waited_for() {
    let deaf =
        Workflow::new("deaf").version("1", |run: Run, (): ()| async move { Ok::<_, Failure>(run.event(&NOTE).await) });
    let house = House::with(vec![deaf.register()]).await;
    let handle = deaf.start(&house.client, ()).await.unwrap();
    let unsent = handle.send_event(&NOTE, "x".into()).await.unwrap_err().to_string();
    assert!(unsent.contains("does not declare the event `note`"), "{unsent}");
    let error = handle.wait().await.unwrap_err().to_string();
    assert!(error.contains("does not declare it: add `.event(&...)`"), "{error}");
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_multicast_tells_who_did_not_get_it() {
    let sum = sum();
    let house = House::with(vec![sum.register()]).await;
    let first = sum.start(&house.client, ()).reference_id("first").await.unwrap();
    let over = sum.start(&house.client, ()).reference_id("over").await.unwrap();
    over.cancel().await.unwrap();
    let runs = [first.id(), over.id()];
    let answer = house.client.multicast_event(&sum, &runs, &PAID, 5).await.unwrap();
    assert_eq!(answer.sent, [first.id()]);
    assert!(matches!(answer.failed[..], [(run, ServerError::RunEnded { .. })] if run == over.id()), "{answer:?}");
    let many = house.client.multicast_event(&sum, &[first.id(); 11], &PAID, 5).await.unwrap_err().to_string();
    assert!(many.contains("at most 10"), "{many}");
    let answer = house.client.multicast_event_by_reference(&sum, &["first"], &PAID, 0).await.unwrap();
    assert_eq!(answer.sent, [first.id()]);
    assert_eq!(first.wait().await.unwrap(), [5]);
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_events_on_one_run_are_kept_in_order() {
    let sum = sum();
    let house = House::with(vec![]).await;
    let handle = sum.start(&house.client, ()).await.unwrap();
    for cents in 1..=10_000 {
        handle.send_event(&PAID, cents).await.unwrap();
    }
    handle.send_event(&PAID, 0).await.unwrap();
    house.worker.workflow_registry().add(&sum);
    assert_eq!(handle.wait().await.unwrap(), (1..=10_000).collect::<Vec<_>>());
    house.close().await;
}
