//! Waiting for runs to get ready.

use std::time::Duration;

use aiki_core::server_client::{ClaimReady, ClaimRef};
use aiki_core::{CancellationToken, RunId, ServerError};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use super::LocalClient;
use crate::operation::Release;
use crate::storage::StoredRun;

/// How often one who waits looks into the store when runs get ready without a word to this server, or are left to those
/// who listen for a while.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How a wait ends.
pub(crate) enum Sought {
    /// With what was claimed, after so long; perhaps nothing.
    Claimed(Vec<StoredRun>, Duration),
    /// With what the same question was answered before.
    Given(Vec<RunId>),
    /// With nothing: somebody else waits for the answer to the same question, or nobody any more.
    Over,
}

impl LocalClient {
    /// Claims what is ready. When nothing is, waits for up to `wait`; `question` is the number that the worker gave it.
    /// Cancel-safe: nothing stays claimed when the future is dropped.
    pub(crate) async fn seek(
        &self,
        request: ClaimReady,
        wait: Duration,
        question: Option<u64>,
        enough: &CancellationToken,
    ) -> Result<Sought, ServerError> {
        let (server, begun) = (&self.server, Instant::now());
        let seeker = server.seekers.seek(&self.namespace, &request, question)?;
        let deadline = begun + wait;
        // A run that another server makes ready, or whose announcement failed, wakes nobody here.
        let looks = server.workers.is_shared() || server.announcer.is_some();
        loop {
            let goes_on = seeker.looks();
            if let Some(runs) = question.and_then(|question| self.given(&request, question)) {
                return Ok(Sought::Given(runs));
            }
            let waited = begun.elapsed();
            if !goes_on {
                return Ok(Sought::Over);
            }
            let rows = self.claim_or_release(request.clone()).await?;
            if !rows.is_empty() || waited >= wait {
                return Ok(Sought::Claimed(rows, waited));
            }
            tokio::select! {
                biased;
                () = seeker.woken() => {}
                () = enough.cancelled() => return Ok(Sought::Claimed(Vec::new(), waited)),
                () = server.closed() => return Err(ServerError::Unavailable("the server was closed".into())),
                () = server.draining() => return Ok(Sought::Claimed(Vec::new(), waited)),
                () = sleep_until(deadline.min(Instant::now() + LOOK_EVERY)), if looks => {}
                () = sleep_until(deadline) => return Ok(Sought::Claimed(Vec::new(), wait)),
            }
        }
    }

    #[cfg(feature = "http")]
    fn given(&self, request: &ClaimReady, question: u64) -> Option<Vec<RunId>> {
        self.server.workers.given(&self.namespace, &request.worker, question)
    }

    #[cfg(not(feature = "http"))]
    fn given(&self, _request: &ClaimReady, _question: u64) -> Option<Vec<RunId>> {
        None
    }

    /// Claims what is ready. What was claimed for somebody who has gone meanwhile is given back.
    async fn claim_or_release(&self, request: ClaimReady) -> Result<Vec<StoredRun>, ServerError> {
        let (answer, answered) = oneshot::channel();
        let client = self.clone();
        tokio::spawn(async move {
            let rows = client.claim_ready_rows(request).await;
            // Nobody may be there any more: dropping the rows gives them back.
            drop(answer.send(rows.map(|rows| Rows { client, rows })));
        });
        let closed = || ServerError::Unavailable("the server was closed".into());
        answered.await.map_err(|_| closed())?.map(Rows::take)
    }
}

/// Claims that are given back unless somebody takes them.
struct Rows {
    client: LocalClient,
    rows: Vec<StoredRun>,
}

impl Rows {
    fn take(mut self) -> Vec<StoredRun> {
        std::mem::take(&mut self.rows)
    }
}

impl Drop for Rows {
    fn drop(&mut self) {
        let claims: Vec<_> = self.rows.iter().map(|row| ClaimRef { run: row.head.id, epoch: row.head.epoch }).collect();
        if claims.is_empty() {
            return;
        }
        // Without a runtime, or when it fails, the leases lapse.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (namespace, server) = (self.client.namespace.clone(), self.client.server.clone());
            runtime.spawn(async move { drop(server.lane.call(Release { namespace, claims }).await) });
        }
    }
}
