//! Several workers and one pile of work.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aiki_core::{Failure, Run, Task, TaskContext, Workflow, WorkflowVersion};
use aiki_worker::WorkerPhase;
use common::{House, start, until};
use tokio::time::Instant;

fn double() -> WorkflowVersion<u32, u32> {
    Workflow::new("double").version("1.0.0", |_: Run, n: u32| async move { Ok::<_, Failure>(n * 2) })
}

/// A workflow with one task that takes a second and counts itself.
fn slow(counter: &Arc<Mutex<Vec<u32>>>) -> WorkflowVersion<u32, u32> {
    let counter = counter.clone();
    let work = Task::new("work", move |_: TaskContext, n: u32| {
        let counter = counter.clone();
        async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            counter.lock().unwrap().push(n);
            Ok::<_, Failure>(n)
        }
    });
    Workflow::new("slow").version("1.0.0", move |run: Run, n: u32| {
        let work = work.clone();
        async move { Ok::<_, Failure>(work.start(&run, n).await?) }
    })
}

#[tokio::test(start_paused = true)]
async fn one_run_completes() {
    let house = House::new().await;
    let worker = house.worker("one").build().unwrap();
    worker.workflow_registry().add(double());
    let running = start(&worker);
    let handle = double().start(&house.client, 21).await.unwrap();
    assert_eq!(handle.wait().await.unwrap(), 42);
    let report = worker.stop().await;
    assert_eq!(report.totals.completed, 1);
    assert!(report.is_clean(), "{report}");
    assert_eq!(running.await.unwrap().unwrap(), report);
}

#[tokio::test(start_paused = true)]
async fn many_workers_share_the_work_and_nothing_runs_twice() {
    let house = House::new().await;
    let done = Arc::new(Mutex::new(Vec::new()));
    let workflow = slow(&done);
    let workers: Vec<_> = (0..4).map(|n| house.worker(&format!("w{n}")).build().unwrap()).collect();
    for worker in &workers {
        worker.workflow_registry().add(&workflow);
        start(worker);
    }
    let began = Instant::now();
    let mut handles = Vec::new();
    for n in 0..64 {
        handles.push(workflow.start(&house.client, n).await.unwrap());
    }
    for (n, handle) in handles.iter().enumerate() {
        assert_eq!(handle.wait().await.unwrap(), n as u32);
    }
    // 64 seconds of work in 16 slots.
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    let mut ran = done.lock().unwrap().clone();
    ran.sort_unstable();
    assert_eq!(ran, (0..64).collect::<Vec<_>>());
    for worker in &workers {
        let report = worker.stop().await;
        assert!(report.totals.completed >= 8, "the work is not shared: {report}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_takes_no_more_than_it_has_slots_for() {
    let house = House::new().await;
    let done = Arc::new(Mutex::new(Vec::new()));
    let workflow = slow(&done);
    for n in 0..10 {
        workflow.start(&house.client, n).await.unwrap();
    }
    let worker = house.worker("two-slots").max_concurrent_workflow_runs(2).build().unwrap();
    worker.workflow_registry().add(&workflow);
    start(&worker);
    let mut most = 0;
    for _ in 0..40 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let status = worker.status();
        most = most.max(status.active.len());
        assert_eq!(status.active.len() + status.free_slots, 2);
    }
    assert_eq!(most, 2);
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn specialised_workers_take_only_their_own() {
    let house = House::new().await;
    let workflows: Vec<_> = ["email", "image"]
        .into_iter()
        .map(|name| Workflow::new(name).version("1.0.0", |_: Run, (): ()| async { Ok::<_, Failure>(()) }))
        .collect();
    let mut workers = Vec::new();
    for (n, workflow) in workflows.iter().enumerate() {
        let worker = house.worker(&format!("w{n}")).build().unwrap();
        worker.workflow_registry().add(workflow);
        start(&worker);
        workers.push(worker);
    }
    for _ in 0..5 {
        for workflow in &workflows {
            workflow.start(&house.client, ()).await.unwrap().wait().await.unwrap();
        }
    }
    for worker in workers {
        assert_eq!(worker.stop().await.totals.completed, 5);
    }
}

#[tokio::test(start_paused = true)]
async fn a_version_that_nobody_serves_waits_for_its_worker() {
    let house = House::new().await;
    let old = double();
    let new = Workflow::new("double").version("2.0.0", |_: Run, n: u32| async move { Ok::<_, Failure>(n * 20) });
    let worker = house.worker("old").build().unwrap();
    worker.workflow_registry().add(&old);
    start(&worker);
    let handle = new.start(&house.client, 1).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert!(!handle.state().await.unwrap().is_terminal());
    assert_eq!(worker.status().totals.claimed, 0, "the wrong version was taken");

    let second = house.worker("new").build().unwrap();
    second.workflow_registry().add(&new);
    start(&second);
    let began = Instant::now();
    assert_eq!(handle.wait().await.unwrap(), 20);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_workflow_added_after_the_start_is_served() {
    let house = House::new().await;
    let done = Arc::new(Mutex::new(Vec::new()));
    let first = slow(&done);
    let worker = house.worker("growing").build().unwrap();
    worker.workflow_registry().add(&first);
    start(&worker);
    let busy = first.start(&house.client, 1).await.unwrap();
    until("the first run is taken", || worker.status().active.len() == 1).await;
    worker.workflow_registry().add(double());
    let handle = double().start(&house.client, 4).await.unwrap();
    assert_eq!(handle.wait().await.unwrap(), 8);
    // The run that came through the replaced subscription ends, and is settled, all the same.
    assert_eq!(busy.wait().await.unwrap(), 1);
    until("everything is settled", || house.queue.held() == 0).await;
    assert_eq!(*done.lock().unwrap(), [1]);
    assert!(worker.stop().await.is_clean());
}

#[tokio::test(start_paused = true)]
async fn two_workers_with_the_same_id_do_not_disturb_each_other() {
    let house = House::new().await;
    let done = Arc::new(Mutex::new(Vec::new()));
    let workflow = slow(&done);
    let workers: Vec<_> = (0..2).map(|_| house.worker("same").build().unwrap()).collect();
    let names: BTreeSet<_> = workers.iter().map(|worker| worker.name().to_owned()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    for worker in &workers {
        assert_eq!(worker.id(), "same");
        worker.workflow_registry().add(&workflow);
        start(worker);
    }
    let mut handles = Vec::new();
    for n in 0..32 {
        handles.push(workflow.start(&house.client, n).await.unwrap());
    }
    // One of them leaves in the middle.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    workers[0].stop().await;
    for handle in &handles {
        handle.wait().await.unwrap();
    }
    assert_eq!(done.lock().unwrap().len(), 32);
    assert_eq!(workers[1].stop().await.totals.lost, 0);
}

#[tokio::test(start_paused = true)]
async fn paused_intake_takes_nothing_and_resumes() {
    let house = House::new().await;
    let worker = house.worker("pausing").build().unwrap();
    worker.workflow_registry().add(double());
    start(&worker);
    until("it runs", || worker.status().phase == WorkerPhase::Running).await;
    worker.pause_intake();
    common::settle().await;
    let handle = double().start(&house.client, 5).await.unwrap();
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(worker.status().paused);
    assert_eq!(worker.status().totals.claimed, 0);
    worker.resume_intake();
    let began = Instant::now();
    assert_eq!(handle.wait().await.unwrap(), 10);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn without_a_transport_runs_are_claimed_from_the_server() {
    let house = House::new().await;
    let worker = house.claiming_worker("claiming", house.client.clone()).build().unwrap();
    worker.workflow_registry().add(double());
    start(&worker);
    for n in 0..10 {
        assert_eq!(double().start(&house.client, n).await.unwrap().wait().await.unwrap(), n * 2);
    }
    assert_eq!(worker.stop().await.totals.completed, 10);
}

#[tokio::test(start_paused = true)]
async fn a_run_reserved_for_a_pool_goes_to_its_members_only() {
    let house = House::new().await;
    let outside = house.worker("outside").build().unwrap();
    let inside = house.worker("inside").pool("gpu").build().unwrap();
    for worker in [&outside, &inside] {
        worker.workflow_registry().add(double());
        start(worker);
    }
    for n in 0..6 {
        double().start(&house.client, n).pool("gpu").await.unwrap().wait().await.unwrap();
    }
    assert_eq!(outside.stop().await.totals.claimed, 0);
    assert_eq!(inside.stop().await.totals.completed, 6);
}
