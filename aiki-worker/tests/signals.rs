//! Events that reach a run while a body of it is at work.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use std::sync::atomic::Ordering;
use std::time::Duration;

use aiki_core::{Either, Event, Failure, Run, Task, TaskContext, Workflow, WorkflowVersion, race};
use common::faulty::Faulty;
use common::{House, start, until};
use tokio::time::Instant;

const STOP: Event<u32> = Event::new("stop");
const HOUR: Duration = Duration::from_secs(3_600);

/// Works for an hour unless it is stopped.
fn works() -> WorkflowVersion<(), u32> {
    let work = Task::new("work", |_: TaskContext, (): ()| async move {
        tokio::time::sleep(HOUR).await;
        Ok::<_, Failure>(())
    });
    Workflow::new("works")
        .version("1", move |run: Run, (): ()| {
            let work = work.clone();
            async move {
                Ok::<_, Failure>(match race(run.event(&STOP), work.start(&run, ())).await {
                    Either::Left(reason) => reason,
                    Either::Right(_) => 0,
                })
            }
        })
        .event(&STOP)
}

#[tokio::test(start_paused = true)]
async fn an_event_is_asked_for_again_when_the_question_fails() {
    let house = House::new().await;
    let (client, faults) = Faulty::wrap(&house.client);
    let worker = house.worker_for("w", client).build().unwrap();
    worker.workflow_registry().add(works());
    start(&worker);
    let handle = works().start(&house.client, ()).await.unwrap();
    until("it is at work", || worker.status().active.len() == 1).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    faults.deaf.store(3, Ordering::SeqCst);
    let sent = Instant::now();
    handle.send_event(&STOP, 7).await.unwrap();
    assert_eq!(handle.wait().await.unwrap(), 7);
    assert!(sent.elapsed() < Duration::from_secs(10), "{:?}", sent.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_event_that_comes_before_the_answer_to_the_claim_reaches_the_second_pass() {
    let house = House::new().await;
    let first = house.worker("first").build().unwrap();
    first.workflow_registry().add(works());
    start(&first);
    let handle = works().start(&house.client, ()).await.unwrap();
    until("it is at work", || first.status().active.len() == 1).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    // The next pass finds all on record and reports nothing before its body ends.
    let (client, faults) = Faulty::wrap(&house.client);
    faults.slow_claims.store(3_000, Ordering::SeqCst);
    let second = house.worker_for("second", client).build().unwrap();
    second.workflow_registry().add(works());
    start(&second);
    tokio::time::sleep(Duration::from_secs(1)).await;
    first.stop().await;
    // Granted by now, but the worker does not know it yet.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(second.status().active.len(), 0);
    let sent = Instant::now();
    handle.send_event(&STOP, 7).await.unwrap();
    assert_eq!(handle.wait().await.unwrap(), 7);
    assert!(sent.elapsed() < Duration::from_secs(10), "{:?}", sent.elapsed());
}
