//! Ready is who is proven to consume.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::time::Duration;

use aiki_core::{Failure, Run, Task, TaskContext, Workflow, WorkflowVersion};
use aiki_worker::{Unready, WorkerBuilder, WorkerPhase};
use common::breakable::Breakable;
use common::{House, start, until};
use tokio::time::sleep;

const LIMIT: Duration = Duration::from_secs(15);

fn lasting() -> WorkflowVersion<u64, ()> {
    let task = Task::new("wait", |_: TaskContext, seconds: u64| async move {
        sleep(Duration::from_secs(seconds)).await;
        Ok::<_, Failure>(())
    });
    Workflow::new("lasting").version("1.0.0", move |run: Run, seconds: u64| {
        let task = task.clone();
        async move { Ok::<_, Failure>(task.start(&run, seconds).await?) }
    })
}

/// A worker over a transport that can go away; without a backup, unless asked for.
async fn worker(house: &House, queue: &Breakable) -> WorkerBuilder {
    house.worker("w").subscriber(queue.clone()).backup_subscriber(false)
}

#[tokio::test(start_paused = true)]
async fn a_worker_is_ready_once_it_has_received_and_not_before() {
    let (house, queue) = (House::new().await, Breakable::default());
    let worker = worker(&house, &queue).await.build().unwrap();
    worker.workflow_registry().add(lasting());
    assert_eq!(worker.health().unready(), Some(Unready::Phase(WorkerPhase::Idle)));
    start(&worker);
    until("it runs", || worker.status().phase == WorkerPhase::Running).await;
    assert_eq!(worker.health().unready(), Some(Unready::NothingYet), "a subscription alone proves nothing");
    sleep(Duration::from_secs(2)).await;
    assert!(worker.health().is_ready(), "{:?}", worker.health());
    worker.stop().await;
    assert_eq!(worker.health().unready(), Some(Unready::Phase(WorkerPhase::Stopped)));
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_transport_is_away_is_not_ready_though_its_loop_goes_round() {
    let (house, queue) = (House::new().await, Breakable::default());
    let worker = worker(&house, &queue).await.build().unwrap();
    worker.workflow_registry().add(lasting());
    start(&worker);
    sleep(Duration::from_secs(5)).await;
    queue.break_down();
    sleep(LIMIT + Duration::from_secs(3)).await;
    let health = worker.health();
    assert!(matches!(health.unready(), Some(Unready::Starving(since)) if since > LIMIT), "{health:?}");
    assert!(health.since_tick.unwrap() <= Duration::from_secs(1), "{health:?}");
    queue.come_back();
    sleep(Duration::from_secs(6)).await;
    assert!(worker.health().is_ready(), "{:?}", worker.health());
}

#[tokio::test(start_paused = true)]
async fn a_worker_on_its_backup_is_ready_and_says_so() {
    let (house, queue) = (House::new().await, Breakable::default());
    let worker = worker(&house, &queue).await.backup_subscriber(true).build().unwrap();
    worker.workflow_registry().add(lasting());
    start(&worker);
    sleep(Duration::from_secs(5)).await;
    assert!(!worker.health().on_backup);
    queue.break_down();
    sleep(LIMIT * 3).await;
    let health = worker.health();
    assert!(health.is_ready() && health.on_backup && health.backup_switches == 1, "{health:?}");
    queue.come_back();
    sleep(Duration::from_secs(10)).await;
    assert!(!worker.health().on_backup);
}

#[tokio::test(start_paused = true)]
async fn a_full_worker_need_not_consume_and_a_paused_one_does_not() {
    let (house, queue) = (House::new().await, Breakable::default());
    let worker = worker(&house, &queue).await.subscriber(house.queue.clone()).max_concurrent_workflow_runs(1);
    let worker = worker.build().unwrap();
    worker.workflow_registry().add(lasting());
    start(&worker);
    let handle = lasting().start(&house.client, 300).await.unwrap();
    sleep(Duration::from_secs(200)).await;
    let health = worker.health();
    assert!(health.since_consume.unwrap() > LIMIT && health.is_ready(), "{health:?}");
    assert_eq!(health.held, 1);
    assert!(health.oldest_lease.unwrap() <= Duration::from_secs(21), "{health:?}");
    handle.wait().await.unwrap();
    // Having room again is not yet a reason to doubt it.
    assert!(worker.health().is_ready(), "{:?}", worker.health());
    worker.pause_intake();
    sleep(LIMIT * 2).await;
    assert_eq!(worker.health().unready(), Some(Unready::Paused));
    worker.resume_intake();
    assert!(worker.health().is_ready(), "{:?}", worker.health());
}

#[test]
fn a_handler_that_blocks_the_runtime_shows() {
    // One thread for everything but the heartbeats: the handler blocks the worker's loop.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (tell, health) = std::sync::mpsc::channel();
    runtime.block_on(async {
        let server = aiki_server::Server::builder().start().await.unwrap();
        let worker = aiki_worker::Worker::builder(server.client())
            .readiness_limit(Duration::from_millis(60))
            .max_concurrent_workflow_runs(2)
            .build()
            .unwrap();
        let (probe, looks) = (worker.clone(), std::sync::Arc::new(std::sync::Mutex::new(Some(tell))));
        worker.workflow_registry().add(Workflow::new("blocking").version("1.0.0", move |_: Run, (): ()| {
            let (probe, tell) = (probe.clone(), looks.lock().unwrap().take());
            async move {
                std::thread::sleep(Duration::from_millis(100));
                // A probe from another thread sees what this one sees.
                let look = std::thread::spawn(move || probe.health());
                if let Some(tell) = tell {
                    tell.send(look.join().unwrap()).unwrap();
                }
                Ok::<_, Failure>(())
            }
        }));
        let blocking = Workflow::new("blocking").version("1.0.0", |_: Run, (): ()| async { Ok::<_, Failure>(()) });
        start(&worker);
        blocking.start(&server.client(), ()).await.unwrap().wait().await.unwrap();
        worker.stop().await;
    });
    let health = health.recv().unwrap();
    assert!(matches!(health.unready(), Some(Unready::Stuck(_))), "{health:?}");
}
