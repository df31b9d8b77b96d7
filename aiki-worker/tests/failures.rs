//! What goes wrong in handlers.

mod common;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use aiki_core::server_client::ClaimedRun;
use aiki_core::{
    ExecutionScope, Failure, Outcome, RetryStrategy, Run, Task, TaskContext, Workflow, WorkflowExecutor,
    WorkflowVersion,
};
use async_trait::async_trait;
use common::logs::Logs;
use common::{House, failure_of, start, until};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

fn identity(name: &str) -> WorkflowVersion<u32, u32> {
    Workflow::new(name).version("1.0.0", |_: Run, n: u32| async move { Ok::<_, Failure>(n) })
}

#[tokio::test(start_paused = true)]
async fn a_panic_fails_its_task_and_not_the_worker() {
    let house = House::new().await;
    let fragile = Task::new("fragile", |_: TaskContext, n: u32| async move {
        assert!(n != 13, "thirteen is not served");
        Ok::<_, Failure>(n)
    });
    let workflow = Workflow::new("fragile").version("1.0.0", move |run: Run, n: u32| {
        let fragile = fragile.clone();
        async move { Ok::<_, Failure>(fragile.start(&run, n).await?) }
    });
    let worker = house.worker("tough").build().unwrap();
    worker.workflow_registry().add(&workflow);
    start(&worker);
    let bad = workflow.start(&house.client, 13).await.unwrap();
    let good = workflow.start(&house.client, 14).await.unwrap();
    assert_eq!(good.wait().await.unwrap(), 14);
    let error = bad.wait().await.unwrap_err().to_string();
    assert!(error.contains("thirteen is not served"), "{error}");
    let totals = worker.stop().await.totals;
    assert_eq!((totals.completed, totals.failed, totals.lost), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_handler_fails_its_run_only() {
    let house = House::new().await;
    let workflow = Workflow::new("boom").version("1.0.0", |_: Run, n: u32| async move {
        if n == 1 {
            panic!("no such luck");
        }
        Ok::<_, Failure>(n)
    });
    let worker = house.worker("tough").build().unwrap();
    worker.workflow_registry().add(&workflow);
    start(&worker);
    let bad = workflow.start(&house.client, 1).await.unwrap();
    assert!(bad.wait().await.unwrap_err().to_string().contains("no such luck"));
    assert_eq!(workflow.start(&house.client, 2).await.unwrap().wait().await.unwrap(), 2);
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("it went off");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_drop_costs_no_more_than_its_run() {
    let house = House::new().await;
    let workflow = Workflow::new("mined").version("1.0.0", |run: Run, defused: bool| async move {
        let bomb = Bomb;
        // The handler is dropped here, and begins again later.
        run.sleep("nap", Duration::from_secs(3_600)).await;
        if defused {
            std::mem::forget(bomb);
        }
        Ok::<_, Failure>(7)
    });
    let task = Task::new("mined", |_: TaskContext, (): ()| async move {
        let _bomb = Bomb;
        Ok::<_, Failure>(7)
    });
    let body = Workflow::new("mined-body").version("1.0.0", move |run: Run, (): ()| {
        let task = task.clone();
        async move { Ok::<_, Failure>(task.start(&run, ()).await?) }
    });
    let worker = house.worker("tough").build().unwrap();
    worker.workflow_registry().add(&workflow);
    worker.workflow_registry().add(&body);
    start(&worker);
    let defused = workflow.start(&house.client, true).await.unwrap();
    let mined = workflow.start(&house.client, false).await.unwrap();
    let mined_body = body.start(&house.client, ()).await.unwrap();
    assert_eq!(defused.wait().await.unwrap(), 7);
    assert!(mined.wait().await.unwrap_err().to_string().contains("it went off"));
    assert!(mined_body.wait().await.unwrap_err().to_string().contains("it went off"));
    let totals = worker.stop().await.totals;
    assert_eq!((totals.suspended, totals.completed, totals.failed, totals.handed_back), (2, 1, 2, 0));
}

#[tokio::test(start_paused = true)]
async fn work_that_outlives_its_body_writes_nothing() {
    let house = House::new().await;
    let late = Arc::new(AtomicUsize::new(0));
    let counter = late.clone();
    let task = Task::new("leaky", move |cx: TaskContext, (): ()| {
        let counter = counter.clone();
        async move {
            tokio::spawn(async move {
                for n in 0..10 {
                    tokio::time::sleep(Duration::from_secs(5)).await;
                    cx.heartbeat_with(&n).unwrap();
                    counter.fetch_add(1, Ordering::SeqCst);
                }
            });
            Ok::<_, Failure>(7)
        }
    });
    let workflow = Workflow::new("leaky").version("1.0.0", move |run: Run, (): ()| {
        let task = task.clone();
        async move {
            let result = task.start(&run, ()).await?;
            run.sleep("nap", Duration::from_secs(20)).await;
            Ok::<_, Failure>(result)
        }
    });
    let worker = house.worker("tough").build().unwrap();
    worker.workflow_registry().add(&workflow);
    start(&worker);
    let handle = workflow.start(&house.client, ()).await.unwrap();
    until("the body is over", || worker.status().totals.suspended == 1).await;
    let before = handle.record().await.unwrap();
    until("it has said something twice", || late.load(Ordering::SeqCst) >= 2).await;
    assert_eq!(handle.record().await.unwrap(), before);
    assert_eq!(handle.wait().await.unwrap(), 7);
    let ended = handle.record().await.unwrap();
    until("it has said everything", || late.load(Ordering::SeqCst) == 10).await;
    assert_eq!(handle.record().await.unwrap(), ended);
    assert_eq!((ended.tasks.len(), ended.tasks[0].checkpoint.clone()), (1, None));
}

/// Panics at its first run.
struct Clumsy {
    inner: Arc<dyn WorkflowExecutor>,
    fell: AtomicBool,
}

#[async_trait]
impl WorkflowExecutor for Clumsy {
    async fn execute(&self, claim: ClaimedRun, scope: ExecutionScope) -> Outcome {
        if !self.fell.swap(true, Ordering::SeqCst) {
            panic!("the executor stumbles");
        }
        self.inner.execute(claim, scope).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_executor_frees_the_slot_and_hands_the_run_back() {
    let logs = Logs::capture();
    let house = House::new().await;
    let worker = house
        .worker("clumsy")
        .max_concurrent_workflow_runs(1)
        .executor(|inner| Arc::new(Clumsy { inner, fell: AtomicBool::new(false) }))
        .build()
        .unwrap();
    worker.workflow_registry().add(identity("id"));
    start(&worker);
    let handle = identity("id").start(&house.client, 5).await.unwrap();
    let began = Instant::now();
    assert_eq!(handle.wait().await.unwrap(), 5);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(logs.count("the executor panicked"), 1);
    let totals = worker.stop().await.totals;
    assert_eq!((totals.claimed, totals.handed_back, totals.completed), (2, 1, 1));
}

#[derive(Serialize, Deserialize)]
struct Order {
    items: Vec<Item>,
}
#[derive(Serialize, Deserialize)]
struct Item {
    cents: u64,
}

#[tokio::test(start_paused = true)]
async fn an_input_of_another_shape_fails_the_run_once_with_its_place() {
    let house = House::new().await;
    let called = Arc::new(AtomicUsize::new(0));
    let counter = called.clone();
    let serving = Workflow::new("order")
        .version("1.0.0", move |_: Run, order: Order| {
            counter.fetch_add(1, Ordering::SeqCst);
            async move { Ok::<_, Failure>(order.items.iter().map(|item| item.cents).sum::<u64>()) }
        })
        .retry(RetryStrategy::fixed(5, Duration::from_millis(1)));
    let calling = Workflow::new("order")
        .version("1.0.0", |_: Run, _: serde_json::Value| async { Ok::<_, Failure>(0u64) })
        .retry(RetryStrategy::fixed(5, Duration::from_millis(1)));
    let worker = house.worker("strict").build().unwrap();
    worker.workflow_registry().add(&serving);
    start(&worker);
    let input = serde_json::json!({"items": [{"cents": 1}, {"cents": "two"}]});
    let handle = calling.start(&house.client, input).await.unwrap();
    let error = handle.wait().await.unwrap_err().to_string();
    assert!(error.contains("items[1].cents"), "{error}");
    assert_eq!(called.load(Ordering::SeqCst), 0);
    assert_eq!(handle.record().await.unwrap().attempts, 1, "another attempt cannot help");
    let right = serde_json::json!({"items": [{"cents": 1}, {"cents": 2}]});
    assert_eq!(calling.start(&house.client, right).await.unwrap().wait().await.unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_output_that_is_no_json_fails_the_run() {
    let house = House::new().await;
    let workflow = Workflow::new("map")
        .version("1.0.0", |_: Run, n: u8| async move { Ok::<_, Failure>(HashMap::from([((n, n), n)])) });
    let worker = house.worker("strict").build().unwrap();
    worker.workflow_registry().add(&workflow);
    start(&worker);
    let handle = workflow.start(&house.client, 1).await.unwrap();
    let error = handle.wait().await.unwrap_err().to_string();
    assert!(error.contains("key must be a string"), "{error}");
}

/// Returns text of so many bytes: from its task, or by itself.
fn text() -> WorkflowVersion<(bool, usize), String> {
    let task = Task::new("text", |_: TaskContext, bytes: usize| async move { Ok::<_, Failure>("x".repeat(bytes)) });
    Workflow::new("text").version("1.0.0", move |run: Run, (by_task, bytes): (bool, usize)| {
        let task = task.clone();
        async move {
            if by_task {
                return Ok::<_, Failure>(task.start(&run, bytes).await?);
            }
            Ok("x".repeat(bytes))
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_payload_over_the_workers_limit_fails_with_both_sizes() {
    let house = House::new().await;
    let worker = house.worker("narrow").payload_limit(100).build().unwrap();
    worker.workflow_registry().add(text());
    start(&worker);
    for by_task in [true, false] {
        let handle = text().start(&house.client, (by_task, 99)).await.unwrap();
        let error = handle.wait().await.unwrap_err().to_string();
        assert!(error.contains("101 bytes") && error.contains("limit is 100"), "{error}");
        assert_eq!(text().start(&house.client, (by_task, 98)).await.unwrap().wait().await.unwrap().len(), 98);
    }
}

#[tokio::test(start_paused = true)]
async fn a_payload_over_the_servers_limit_fails_the_run_instead_of_looping() {
    let house = House::with_payload_limit(200).await;
    let worker = house.worker("wide").build().unwrap();
    worker.workflow_registry().add(text());
    start(&worker);
    for by_task in [true, false] {
        let handle = text().start(&house.client, (by_task, 500)).await.unwrap();
        handle.wait().await.unwrap_err();
        let error = failure_of(&handle.state().await.unwrap());
        assert!(error.contains("502") && error.contains("200"), "{error}");
    }
    let totals = worker.stop().await.totals;
    assert_eq!((totals.claimed, totals.failed), (2, 2));
}

/// A task that fails twice, then works. Counts its attempts.
fn flaky(delay: Duration, attempts: &Arc<AtomicUsize>) -> WorkflowVersion<(), usize> {
    let attempts = attempts.clone();
    let task = Task::new("flaky", move |cx: TaskContext, (): ()| {
        let made = attempts.fetch_add(1, Ordering::SeqCst) + 1;
        async move {
            if cx.attempt() < 3 {
                return Err(Failure::new("Flaky", "not yet"));
            }
            Ok(made)
        }
    })
    .retry(RetryStrategy::fixed(3, delay));
    Workflow::new("flaky").version("1.0.0", move |run: Run, (): ()| {
        let task = task.clone();
        async move { Ok::<_, Failure>(task.start(&run, ()).await?) }
    })
}

#[tokio::test(start_paused = true)]
async fn short_retries_stay_in_the_process_and_long_ones_are_parked() {
    for (delay, claims) in [(Duration::from_millis(5), 1), (Duration::from_secs(300), 3)] {
        let house = House::new().await;
        let attempts = Arc::new(AtomicUsize::new(0));
        let worker = house.worker("retrying").build().unwrap();
        let workflow = flaky(delay, &attempts);
        worker.workflow_registry().add(&workflow);
        start(&worker);
        let began = Instant::now();
        assert_eq!(workflow.start(&house.client, ()).await.unwrap().wait().await.unwrap(), 3);
        assert!(began.elapsed() >= delay * 2, "{:?}", began.elapsed());
        assert_eq!(attempts.load(Ordering::SeqCst), 3);
        let totals = worker.stop().await.totals;
        assert_eq!((totals.claimed, totals.suspended), (claims, claims - 1), "{delay:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_run_is_tried_again_as_a_whole() {
    let house = House::new().await;
    let tries = Arc::new(AtomicUsize::new(0));
    let counter = tries.clone();
    let workflow = Workflow::new("whole")
        .version("1.0.0", move |run: Run, (): ()| {
            counter.fetch_add(1, Ordering::SeqCst);
            async move {
                if run.attempt() < 3 {
                    return Err(Failure::new("Early", "too early"));
                }
                Ok(run.attempt())
            }
        })
        .retry(RetryStrategy::fixed(3, Duration::from_secs(60)));
    let worker = house.worker("whole").build().unwrap();
    worker.workflow_registry().add(&workflow);
    start(&worker);
    assert_eq!(workflow.start(&house.client, ()).await.unwrap().wait().await.unwrap(), 3);
    assert_eq!(tries.load(Ordering::SeqCst), 3);
    until("everything is settled", || house.queue.held() == 0).await;
}
