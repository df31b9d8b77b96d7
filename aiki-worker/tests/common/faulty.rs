//! A client whose connection can be disturbed.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use aiki_core::name::Name;
use aiki_core::run::record::Signal;
use aiki_core::server_client::{ClaimOutcome, ClaimReady, ClaimRef, ClaimRuns, ClaimStatus, ClaimedRun, ServerLayer};
use aiki_core::{Client, Report, ReportReceipt, RunId, ServerClient, ServerError};
use async_trait::async_trait;

/// What is wrong, shared with the test.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// Every call fails.
    pub(crate) down: AtomicBool,
    /// Calls never answer.
    pub(crate) hanging: AtomicBool,
    /// The caller is not accepted.
    pub(crate) unauthorized: AtomicBool,
    /// So many answers to reports get lost after the server has written them.
    pub(crate) lost_replies: AtomicU32,
    /// Reports that were sent.
    pub(crate) reports: AtomicUsize,
    /// Claims sent in one call.
    pub(crate) claim_batches: Mutex<Vec<usize>>,
    /// Questions for whatever is ready, those that failed included.
    pub(crate) ready_claims: AtomicUsize,
    /// Refreshes sent.
    pub(crate) refreshes: AtomicUsize,
    /// Claims prolonged in one call.
    pub(crate) refresh_batches: Mutex<Vec<usize>>,
    /// Claims given back in one call.
    pub(crate) release_batches: Mutex<Vec<usize>>,
    /// Claims are prolonged for nobody, whatever is tried.
    pub(crate) refuses_refresh: AtomicBool,
    /// So many questions for signals fail.
    pub(crate) deaf: AtomicU32,
    /// The answers to claims come so many milliseconds after the server has granted them.
    pub(crate) slow_claims: AtomicU64,
    /// The answers to reports come so many milliseconds after the server has written them.
    pub(crate) slow_reports: AtomicU64,
}

pub(crate) struct Faulty {
    inner: Arc<dyn ServerClient>,
    faults: Arc<Faults>,
}

impl Faulty {
    pub(crate) fn wrap(client: &Client) -> (Client, Arc<Faults>) {
        let faults = Arc::new(Faults::default());
        let faulty = Faulty { inner: client.server().clone(), faults: faults.clone() };
        (Client::new(faulty), faults)
    }

    async fn late(&self) {
        let ms = self.faults.slow_claims.load(Ordering::SeqCst);
        if ms > 0 {
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
    }
}

#[async_trait]
impl ServerLayer for Faulty {
    fn inner(&self) -> &Arc<dyn ServerClient> {
        &self.inner
    }

    async fn before(&self) -> Result<(), ServerError> {
        if self.faults.hanging.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_secs(86_400)).await;
        }
        if self.faults.unauthorized.load(Ordering::SeqCst) {
            return Err(ServerError::Unauthorized("the key is unknown".into()));
        }
        if self.faults.down.load(Ordering::SeqCst) {
            return Err(ServerError::Unavailable("the network is cut".into()));
        }
        Ok(())
    }

    async fn claim_runs(&self, request: ClaimRuns) -> Result<Vec<ClaimOutcome>, ServerError> {
        self.before().await?;
        self.faults.claim_batches.lock().unwrap().push(request.runs.len());
        let outcomes = self.inner.claim_runs(request).await;
        self.late().await;
        outcomes
    }

    async fn claim_ready(&self, request: ClaimReady) -> Result<Vec<ClaimedRun>, ServerError> {
        self.faults.ready_claims.fetch_add(1, Ordering::SeqCst);
        self.before().await?;
        let claimed = self.inner.claim_ready(request).await;
        self.late().await;
        claimed
    }

    async fn refresh_runs(
        &self,
        worker: &Name,
        claims: &[ClaimRef],
        lease: Duration,
    ) -> Result<Vec<ClaimStatus>, ServerError> {
        self.before().await?;
        if self.faults.refuses_refresh.load(Ordering::SeqCst) && !claims.is_empty() {
            return Err(ServerError::Invalid("no such lease".into()));
        }
        self.faults.refreshes.fetch_add(1, Ordering::SeqCst);
        self.faults.refresh_batches.lock().unwrap().push(claims.len());
        self.inner.refresh_runs(worker, claims, lease).await
    }

    async fn release_runs(&self, worker: &Name, claims: &[ClaimRef]) -> Result<Vec<ClaimStatus>, ServerError> {
        self.before().await?;
        self.faults.release_batches.lock().unwrap().push(claims.len());
        self.inner.release_runs(worker, claims).await
    }

    async fn report(&self, report: Report) -> Result<ReportReceipt, ServerError> {
        self.before().await?;
        self.faults.reports.fetch_add(1, Ordering::SeqCst);
        let receipt = self.inner.report(report).await?;
        tokio::time::sleep(Duration::from_millis(self.faults.slow_reports.load(Ordering::SeqCst))).await;
        let lose = |left: u32| left.checked_sub(1);
        if self.faults.lost_replies.fetch_update(Ordering::SeqCst, Ordering::SeqCst, lose).is_ok() {
            return Err(ServerError::Unavailable("the answer was lost".into()));
        }
        Ok(receipt)
    }

    async fn get_signals(&self, run: RunId, known: u32) -> Result<Vec<Signal>, ServerError> {
        self.before().await?;
        let fail = |left: u32| left.checked_sub(1);
        if self.faults.deaf.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fail).is_ok() {
            return Err(ServerError::Unavailable("the question was lost".into()));
        }
        self.inner.get_signals(run, known).await
    }
}
