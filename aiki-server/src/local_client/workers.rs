//! Workers: what they serve, what they hear, and who is there.

use std::time::Duration;

use aiki_core::server_client::{WorkerInfo, WorkerServes};
use aiki_core::{Name, RunId, ServerError};

use super::LocalClient;
use crate::validate;

impl LocalClient {
    pub(super) fn seen(&self, worker: &Name) {
        self.server.workers.seen(&self.namespace, worker, self.server.clock.now());
    }

    /// The workers that were heard of lately.
    pub(super) async fn workers_seen(&self) -> Result<Vec<WorkerInfo>, ServerError> {
        /// Claims that are listed at most.
        const LIMIT: usize = 100_000;
        let (workers, now) = (&self.server.workers, self.server.clock.now());
        if !workers.is_shared() {
            return Ok(workers.list(&self.namespace, now));
        }
        let namespace = self.namespace.clone();
        let holders = self.server.readers.read(move |store| store.holders(&namespace, LIMIT)).await?;
        Ok(workers.list_shared(&self.namespace, now, holders))
    }

    /// Notes what a worker serves.
    pub(super) fn announce(&self, worker: &Name, serves: WorkerServes) -> Result<(), ServerError> {
        validate::worker(worker)?;
        validate::items("workflows", serves.workflows.len())?;
        validate::items("pools", serves.pools.len())?;
        self.server.workers.announce(&self.namespace, worker, serves, self.server.clock.now());
        Ok(())
    }

    /// Waits for what happens to the runs that a worker holds.
    pub(super) async fn news(&self, worker: &Name, timeout: Duration) -> Result<Vec<RunId>, ServerError> {
        validate::worker(worker)?;
        let news = self.server.workers.news(&self.namespace, worker, self.server.clock.now());
        // Without a place to be told, there is no news; the wait is the same.
        let Some(news) = news else {
            let _ = tokio::time::timeout(timeout, self.server.draining()).await;
            return Ok(Vec::new());
        };
        tokio::select! {
            biased;
            runs = news.wait() => Ok(runs),
            () = self.server.closed() => Err(ServerError::Unavailable("the server was closed".into())),
            () = self.server.draining() => Ok(Vec::new()),
            () = tokio::time::sleep(timeout) => Ok(Vec::new()),
        }
    }
}
