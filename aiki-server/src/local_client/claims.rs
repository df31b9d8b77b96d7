//! Claims: given, kept and given back.

use std::time::Duration;

use aiki_core::server_client::{ClaimOutcome, ClaimReady, ClaimRef, ClaimRuns, ClaimStatus, ClaimedRun};
use aiki_core::{CancellationToken, Name, ServerError};

use super::{LocalClient, Sought};
use crate::measure::{self, Claimed};
use crate::operation::{Claim, ClaimAnswer, ClaimReadyRuns, Refresh, Release};
use crate::storage::StoredRun;
use crate::validate;

impl LocalClient {
    /// Claims delivered runs; the rows as they are stored.
    pub(crate) async fn claim_rows(&self, request: ClaimRuns) -> Result<Vec<ClaimAnswer>, ServerError> {
        validate::worker(&request.worker)?;
        validate::lease(request.lease)?;
        validate::items("runs", request.runs.len())?;
        let worker = request.worker.clone();
        let claim = Claim { namespace: self.namespace.clone(), request, in_process: self.in_process };
        let answers = self.server.lane.call(claim).await?;
        self.seen(&worker);
        Ok(answers)
    }

    /// Claims what is ready; the rows as they are stored.
    pub(crate) async fn claim_ready_rows(&self, request: ClaimReady) -> Result<Vec<StoredRun>, ServerError> {
        validate::worker(&request.worker)?;
        validate::lease(request.lease)?;
        validate::items("runs", request.limit)?;
        validate::items("workflows", request.workflows.len())?;
        validate::items("pools", request.pools.len())?;
        let (worker, in_process) = (request.worker.clone(), self.in_process);
        let (namespace, announcer) = (self.namespace.clone(), self.server.announcer.clone());
        let runs = self.server.lane.call(ClaimReadyRuns { namespace, request, in_process, announcer }).await?;
        self.seen(&worker);
        Ok(runs)
    }

    /// Claims delivered runs.
    pub(super) async fn claim_delivered(&self, request: ClaimRuns) -> Result<Vec<ClaimOutcome>, ServerError> {
        let lease = request.lease;
        let answers = self.claim_rows(request).await?;
        let mut outcomes = Vec::with_capacity(answers.len());
        for answer in answers {
            outcomes.push(match answer {
                ClaimAnswer::Granted(run) => match self.granted(*run, lease).await {
                    Some(claimed) => ClaimOutcome::Granted(Box::new(claimed)),
                    None => ClaimOutcome::Owned { remaining: lease },
                },
                ClaimAnswer::Owned(remaining) => ClaimOutcome::Owned { remaining },
                ClaimAnswer::Done => ClaimOutcome::Done,
            });
            measure::claims(
                match outcomes.last() {
                    Some(ClaimOutcome::Granted(_)) => Claimed::Granted,
                    Some(ClaimOutcome::Done) => Claimed::Done,
                    _ => Claimed::Owned,
                },
                1,
            );
        }
        Ok(outcomes)
    }

    /// Claims what is ready.
    pub(super) async fn claim_any(&self, request: ClaimReady) -> Result<Vec<ClaimedRun>, ServerError> {
        let lease = request.lease;
        let runs = self.claim_ready_rows(request).await?;
        let mut claimed = Vec::with_capacity(runs.len());
        for run in runs {
            claimed.extend(self.granted(run, lease).await);
        }
        measure::claims(Claimed::Granted, claimed.len());
        Ok(claimed)
    }

    /// The same; waits for something when nothing is ready.
    pub(super) async fn await_any(
        &self,
        request: ClaimReady,
        wait: Duration,
        enough: &CancellationToken,
    ) -> Result<Vec<ClaimedRun>, ServerError> {
        if wait.is_zero() {
            return self.claim_any(request).await;
        }
        let lease = request.lease;
        let Sought::Claimed(runs, waited) = self.seek(request, wait, None, enough).await? else {
            return Ok(Vec::new());
        };
        let mut claimed = Vec::with_capacity(runs.len());
        for run in runs {
            claimed.extend(self.granted(run, lease + waited).await);
        }
        measure::claims(Claimed::Granted, claimed.len());
        Ok(claimed)
    }

    /// What the worker gets to see of a granted claim; `None` when the run's history cannot be read.
    /// The claim then stands without a worker until its lease lapses: given back at once, the run would
    /// be ready at once and go round in a circle.
    async fn granted(&self, run: StoredRun, lease: Duration) -> Option<ClaimedRun> {
        match self.fold(&run).await {
            Ok(record) => {
                let (epoch, history_limit) = (run.head.epoch, self.server.history_limit);
                let granted_at = run.head.lease.as_ref().map(|lease| lease.since);
                Some(ClaimedRun { record, epoch, lease, history_limit, granted_at })
            }
            Err(error) => {
                let run = run.head.id;
                tracing::error!(%run, %error, "a claimed run cannot be read; it is tried again in {lease:?}");
                None
            }
        }
    }

    /// Prolongs claims.
    pub(super) async fn refresh(
        &self,
        worker: &Name,
        claims: &[ClaimRef],
        lease: Duration,
    ) -> Result<Vec<ClaimStatus>, ServerError> {
        validate::worker(worker)?;
        validate::lease(lease)?;
        validate::items("claims", claims.len())?;
        let refresh = Refresh { namespace: self.namespace.clone(), claims: claims.to_vec(), lease };
        let answers = self.server.lane.call(refresh).await?;
        self.seen(worker);
        Ok(answers)
    }

    /// Takes claims back.
    pub(super) async fn release(&self, worker: &Name, claims: &[ClaimRef]) -> Result<Vec<ClaimStatus>, ServerError> {
        validate::worker(worker)?;
        validate::items("claims", claims.len())?;
        let release = Release { namespace: self.namespace.clone(), claims: claims.to_vec() };
        let answers = self.server.lane.call(release).await?;
        self.seen(worker);
        Ok(answers)
    }
}
