//! The server as its own program sees it: no sockets, the same rules.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aiki_core::name::WorkflowKey;
use aiki_core::run::plan::CreateRun;
use aiki_core::run::record::TransitionRecord;
use aiki_core::server_client::{
    ClaimOutcome, ClaimReady, ClaimRef, ClaimRuns, ClaimStatus, ClaimedRun, CreatedRun, RunView, WorkerInfo,
};
use aiki_core::{Name, Report, ReportReceipt, RunId, RunRecord, ServerClient, ServerError};
use async_trait::async_trait;

use crate::operation::{Cancel, Claim, ClaimAnswer, ClaimReadyRuns, Create, Refresh, Release, WriteReport};
use crate::server::Inner;
use crate::storage::{ReferenceKey, StoredRun};
use crate::{record, validate};

/// Speaks to the server of the same program for one namespace. A run of another namespace is not
/// found. The server lives for as long as one of its clients does, unless it is closed.
#[derive(Clone)]
pub struct LocalClient {
    server: Arc<Inner>,
    namespace: Name,
}

impl LocalClient {
    pub(crate) fn new(server: Arc<Inner>, namespace: Name) -> Self {
        Self { server, namespace }
    }

    async fn load(&self, run: RunId) -> Result<StoredRun, ServerError> {
        let stored = self.server.readers.load(run).await?;
        stored.filter(|stored| stored.head.namespace == self.namespace).ok_or(ServerError::RunNotFound(run))
    }

    async fn fold(&self, run: &StoredRun) -> Result<RunRecord, ServerError> {
        record::fold(run, &self.server.readers.pages(run).await?)
    }

    /// What the worker gets to see of a granted claim; `None` when the run's history cannot be read.
    /// The claim then stands without a worker until its lease lapses: given back at once, the run would
    /// be ready at once and go round in a circle.
    async fn granted(&self, run: StoredRun, lease: Duration) -> Option<ClaimedRun> {
        match self.fold(&run).await {
            Ok(record) => Some(ClaimedRun { record, epoch: run.head.epoch, lease }),
            Err(error) => {
                let run = run.head.id;
                tracing::error!(%run, %error, "a claimed run cannot be read; it is tried again in {lease:?}");
                None
            }
        }
    }

    fn seen(&self, worker: &Name) {
        self.server.workers.seen(&self.namespace, worker, self.server.clock.now());
    }
}

impl fmt::Debug for LocalClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalClient").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

#[async_trait]
impl ServerClient for LocalClient {
    fn namespace(&self) -> &Name {
        &self.namespace
    }

    async fn create_run(&self, request: CreateRun) -> Result<CreatedRun, ServerError> {
        validate::create(&request, self.server.payload_limit)?;
        self.server.lane.call(Create { namespace: self.namespace.clone(), request }).await
    }

    async fn get_run(&self, run: RunId) -> Result<RunRecord, ServerError> {
        self.fold(&self.load(run).await?).await
    }

    async fn get_run_by_reference(&self, workflow: &WorkflowKey, reference_id: &str) -> Result<RunRecord, ServerError> {
        let key = ReferenceKey {
            namespace: self.namespace.clone(),
            workflow: workflow.clone(),
            reference_id: reference_id.to_owned(),
        };
        let found = self.server.readers.read(move |store| store.by_reference(&[key])).await?;
        match found.first().copied().flatten() {
            Some(run) => self.get_run(run).await,
            None => Err(ServerError::ReferenceNotFound {
                workflow: workflow.clone(),
                reference_id: reference_id.to_owned(),
            }),
        }
    }

    async fn await_run(&self, run: RunId, timeout: Duration) -> Result<RunView, ServerError> {
        let view = |stored: StoredRun| RunView { revision: stored.head.revision, state: stored.head.state };
        if timeout.is_zero() {
            return Ok(view(self.load(run).await?));
        }
        let mut watch = self.server.watchers.watch(run)?;
        let now = view(self.load(run).await?);
        if now.state.is_terminal() {
            return Ok(now);
        }
        let closed = || ServerError::Unavailable("the server was closed".into());
        tokio::select! {
            biased;
            ended = watch.ended() => ended.ok_or_else(closed),
            () = self.server.closed() => Err(closed()),
            () = tokio::time::sleep(timeout) => Ok(view(self.load(run).await?)),
        }
    }

    async fn list_transitions(&self, run: RunId) -> Result<Vec<TransitionRecord>, ServerError> {
        let stored = self.load(run).await?;
        record::list(&stored, &self.server.readers.pages(&stored).await?)
    }

    async fn cancel_run(&self, run: RunId, explanation: Option<String>) -> Result<(), ServerError> {
        self.server.lane.call(Cancel { namespace: self.namespace.clone(), run, explanation }).await
    }

    async fn claim_runs(&self, request: ClaimRuns) -> Result<Vec<ClaimOutcome>, ServerError> {
        validate::worker(&request.worker)?;
        validate::lease(request.lease)?;
        validate::items("runs", request.runs.len())?;
        let (worker, lease) = (request.worker.clone(), request.lease);
        let answers = self.server.lane.call(Claim { namespace: self.namespace.clone(), request }).await?;
        self.seen(&worker);
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
        }
        Ok(outcomes)
    }

    async fn claim_ready(&self, request: ClaimReady) -> Result<Vec<ClaimedRun>, ServerError> {
        validate::worker(&request.worker)?;
        validate::lease(request.lease)?;
        validate::items("runs", request.limit)?;
        validate::items("workflows", request.workflows.len())?;
        validate::items("pools", request.pools.len())?;
        let (worker, lease) = (request.worker.clone(), request.lease);
        let (namespace, announcer) = (self.namespace.clone(), self.server.announcer.clone());
        let runs = self.server.lane.call(ClaimReadyRuns { namespace, request, announcer }).await?;
        self.seen(&worker);
        let mut claimed = Vec::with_capacity(runs.len());
        for run in runs {
            claimed.extend(self.granted(run, lease).await);
        }
        Ok(claimed)
    }

    async fn refresh_runs(
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

    async fn release_runs(&self, worker: &Name, claims: &[ClaimRef]) -> Result<Vec<ClaimStatus>, ServerError> {
        validate::worker(worker)?;
        validate::items("claims", claims.len())?;
        let release = Release { namespace: self.namespace.clone(), claims: claims.to_vec() };
        let answers = self.server.lane.call(release).await?;
        self.seen(worker);
        Ok(answers)
    }

    async fn report(&self, report: Report) -> Result<ReportReceipt, ServerError> {
        validate::report(&report, self.server.payload_limit)?;
        self.server.lane.call(WriteReport { namespace: self.namespace.clone(), report }).await
    }

    async fn list_workers(&self) -> Result<Vec<WorkerInfo>, ServerError> {
        Ok(self.server.workers.list(&self.namespace, self.server.clock.now()))
    }
}
