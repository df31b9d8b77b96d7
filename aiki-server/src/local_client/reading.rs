//! Runs as they are stored, as workers see them, and as those see them who wait.

use std::time::Duration;

use aiki_core::run::{RunHead, RunStatus};
use aiki_core::server_client::{ChildRun, RunView};
use aiki_core::{RunId, RunRecord, RunState, ServerError};

use super::LocalClient;
use crate::record;
use crate::storage::{LoadedRow, StoredRun};

/// So long is waited at most for an end while the server drains: those who are in its program have no connection that
/// would tell them to stop, and come again and again.
const WHILE_DRAINING: Duration = Duration::from_millis(200);

impl LocalClient {
    pub(crate) async fn load(&self, run: RunId) -> Result<StoredRun, ServerError> {
        let stored = self.server.readers.load(run).await?;
        stored.filter(|stored| stored.head.namespace == self.namespace).ok_or(ServerError::RunNotFound(run))
    }

    pub(super) async fn fold(&self, run: &StoredRun) -> Result<RunRecord, ServerError> {
        record::fold(run, &self.server.readers.pages(run).await?)
    }

    /// Several runs in one look.
    pub(crate) async fn load_all(&self, runs: &[RunId]) -> Vec<Result<StoredRun, ServerError>> {
        let wanted = runs.to_vec();
        let told = |run: RunId, row: LoadedRow| {
            row?.filter(|stored| stored.head.namespace == self.namespace).ok_or(ServerError::RunNotFound(run))
        };
        match self.server.readers.read(move |store| store.load(&wanted)).await {
            Ok(rows) => runs.iter().zip(rows).map(|(run, row)| told(*run, row)).collect(),
            Err(error) => runs.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    pub(crate) fn view(&self, head: RunHead) -> RunView {
        let ready = matches!(head.state, RunState::Queued { .. });
        let unserved = ready && !self.server.workers.serves(&head, self.server.clock.now());
        RunView { revision: head.revision, state: head.state, unserved }
    }

    /// Waits until a run has ended, at most for `timeout`.
    pub(super) async fn ended(&self, run: RunId, timeout: Duration) -> Result<RunView, ServerError> {
        let view = |stored: StoredRun| self.view(stored.head);
        if timeout.is_zero() {
            return Ok(view(self.load(run).await?));
        }
        let mut watch = self.server.watchers.watch(run)?;
        let now = view(self.load(run).await?);
        if now.state.is_terminal() {
            return Ok(now);
        }
        let closed = || ServerError::Unavailable("the server was closed".into());
        let drains = self.server.is_ending();
        let timeout = if drains { timeout.min(WHILE_DRAINING) } else { timeout };
        tokio::select! {
            biased;
            ended = watch.ended() => ended.ok_or_else(closed),
            () = self.server.closed() => Err(closed()),
            () = self.server.draining(), if !drains => Ok(view(self.load(run).await?)),
            () = tokio::time::sleep(timeout) => Ok(view(self.load(run).await?)),
        }
    }

    /// The children of a run.
    pub(super) async fn children(&self, run: RunId, statuses: &[RunStatus]) -> Result<Vec<ChildRun>, ServerError> {
        const LIMIT: usize = 10_000;
        let rows = self.server.readers.read(move |store| {
            let children = store.children(run, LIMIT)?;
            store.load(&children)
        });
        let mut list = Vec::new();
        for row in rows.await? {
            // A child that cannot be read is not kept from the others.
            let Ok(Some(StoredRun { head, .. })) = row else { continue };
            let status = head.state.status();
            if head.namespace == self.namespace && (statuses.is_empty() || statuses.contains(&status)) {
                list.push(ChildRun { run: head.id, status, pool: head.pool().cloned() });
            }
        }
        Ok(list)
    }
}
