//! A house for tests: a server in memory, a queue, and workers, all in virtual time.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, reason = "shared by several test programs")]

pub(crate) mod breakable;
pub(crate) mod faulty;
pub(crate) mod logs;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aiki_core::{Client, RunState};
use aiki_runtime::{SeededEntropy, VirtualClock};
use aiki_server::Server;
use aiki_subscriber_memory::MemoryQueue;
use aiki_worker::{StopReport, Worker, WorkerBuilder, WorkerError};
use tokio::task::JoinHandle;

pub(crate) struct House {
    pub(crate) server: Server,
    pub(crate) queue: MemoryQueue,
    pub(crate) client: Client,
    pub(crate) clock: Arc<VirtualClock>,
    seeds: AtomicU64,
}

impl House {
    pub(crate) async fn new() -> Self {
        Self::with_payload_limit(1_000_000).await
    }

    pub(crate) async fn with_payload_limit(limit: usize) -> Self {
        let clock = Arc::new(VirtualClock::default());
        let queue = MemoryQueue::new();
        let server = Server::builder()
            .clock(clock.clone())
            .entropy(Arc::new(SeededEntropy::new(7)))
            .publisher(Arc::new(queue.clone()))
            .payload_limit(limit)
            .start()
            .await
            .unwrap();
        let client = server.client();
        Self { server, queue, client, clock, seeds: AtomicU64::new(1) }
    }

    /// A worker that receives through the queue.
    pub(crate) fn worker(&self, id: &str) -> WorkerBuilder {
        self.worker_for(id, self.client.clone())
    }

    /// The same through another client.
    pub(crate) fn worker_for(&self, id: &str, client: Client) -> WorkerBuilder {
        self.claiming_worker(id, client).subscriber(self.queue.clone())
    }

    /// A worker that claims straight from the server.
    pub(crate) fn claiming_worker(&self, id: &str, client: Client) -> WorkerBuilder {
        let seed = self.seeds.fetch_add(1, Ordering::Relaxed);
        Worker::builder(client)
            .id(id)
            .max_concurrent_workflow_runs(4)
            .clock(self.clock.clone())
            .entropy(Arc::new(SeededEntropy::new(seed)))
            .heartbeat_on_runtime(true)
    }
}

pub(crate) type Running = JoinHandle<Result<StopReport, WorkerError>>;

/// Starts a worker in the background.
pub(crate) fn start(worker: &Worker) -> Running {
    let worker = worker.clone();
    tokio::spawn(async move { worker.start().await })
}

/// Lets everything else run, without time going by.
pub(crate) async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

/// Waits until `condition` holds, at most a virtual hour.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..360_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never happened: {what}");
}

/// The text of the error with which a run failed.
pub(crate) fn failure_of(state: &RunState) -> String {
    match state {
        RunState::Failed { cause } => cause.error().map(ToString::to_string).unwrap_or_default(),
        other => panic!("the run did not fail: {other:?}"),
    }
}
