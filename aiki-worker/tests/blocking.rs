//! Handlers that do not yield. These tests need threads and real time.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use aiki_core::{Client, Failure, Run, RunState, Workflow, WorkflowVersion};
use aiki_server::Server;
use aiki_worker::{ClaimSubscriber, Worker};
use common::faulty::Faulty;
use common::{start, until};

/// Blocks its thread until the sender is dropped.
fn blocking() -> (mpsc::Sender<()>, WorkflowVersion<(), ()>) {
    let (release, blocked) = mpsc::channel::<()>();
    let blocked = Arc::new(Mutex::new(blocked));
    let workflow = Workflow::new("blocking").version("1.0.0", move |_: Run, (): ()| {
        let blocked = blocked.clone();
        async move {
            let _ended = blocked.lock().unwrap().recv();
            Ok::<_, Failure>(())
        }
    });
    (release, workflow)
}

fn worker(client: Client) -> Worker {
    let claims =
        ClaimSubscriber::new(&client).lease(Duration::from_millis(240)).poll_interval(Duration::from_millis(5));
    Worker::builder(client)
        .id("blocked")
        .subscriber(claims)
        .graceful_shutdown_timeout(Duration::from_millis(20))
        .build()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_handler_that_never_yields_keeps_its_claim_and_cannot_hang_the_stop() {
    let server = Server::builder().start().await.unwrap();
    let (client, faults) = Faulty::wrap(&server.client());
    let (release, workflow) = blocking();
    let worker = worker(client);
    worker.workflow_registry().add(&workflow);
    let running = start(&worker);
    let handle = workflow.start(&server.client(), ()).await.unwrap();
    // More heartbeats than a lease has room for.
    until("claims are prolonged", || faults.refreshes.load(Ordering::SeqCst) > 6).await;
    let status = worker.status();
    assert_eq!(status.active.len(), 1);
    assert!(status.active[0].polling_for.is_some(), "the long poll does not show");
    assert!(matches!(handle.state().await.unwrap(), RunState::Running));
    assert_eq!((status.totals.claimed, status.totals.lost), (1, 0));

    let report = worker.stop().await;
    assert_eq!(report.abandoned, [handle.id()], "{report}");
    assert_eq!(report.handed_back, [handle.id()], "{report}");
    assert_eq!(running.await.unwrap().unwrap(), report);
    assert!(matches!(handle.state().await.unwrap(), RunState::Queued { .. }));
    drop(release);
}
