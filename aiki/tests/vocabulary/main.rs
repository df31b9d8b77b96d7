//! What workflows can say, from end to end: server, queue and worker in one process, in virtual time.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

mod children;
mod continuing;
mod control;
mod events;
mod limits;

use std::sync::Arc;
use std::time::Duration;

use aiki::prelude::*;
use aiki::{RegisteredWorkflow, RunState, Timestamp, VirtualClock};

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// A server with a worker.
pub(crate) struct House {
    pub(crate) server: Server,
    pub(crate) client: Client,
    pub(crate) worker: Worker,
}

impl House {
    pub(crate) async fn with(workflows: Vec<RegisteredWorkflow>) -> Self {
        Self::configured(workflows, |server| server, |worker| worker).await
    }

    pub(crate) async fn configured(
        workflows: Vec<RegisteredWorkflow>,
        server: impl FnOnce(aiki::ServerBuilder) -> aiki::ServerBuilder,
        worker: impl FnOnce(aiki::WorkerBuilder) -> aiki::WorkerBuilder,
    ) -> Self {
        let clock = Arc::new(VirtualClock::starting_at(Timestamp::from_millis(1_800_000_000_000)));
        let server = server(Server::builder().clock(clock.clone())).start().await.unwrap();
        let client = server.client();
        let builder = Worker::builder(client.clone()).subscriber(server.subscriber()).clock(clock);
        let builder = builder.max_concurrent_workflow_runs(32).heartbeat_on_runtime(true);
        let worker = worker(builder).build().unwrap();
        for workflow in workflows {
            worker.workflow_registry().add(workflow);
        }
        let running = worker.clone();
        tokio::spawn(async move { running.start().await });
        Self { server, client, worker }
    }

    pub(crate) async fn close(self) {
        self.worker.stop().await;
        self.server.close().await;
    }
}

/// Waits until the run is in such a state.
pub(crate) async fn until<O, E>(handle: &RunHandle<O, E>, wanted: impl Fn(&RunState) -> bool) {
    for tries in 0..20_000 {
        let state = handle.state().await.unwrap();
        if wanted(&state) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(if tries < 1_000 { 1 } else { 500 })).await;
    }
    panic!("the run is {:?}", handle.state().await.unwrap());
}
