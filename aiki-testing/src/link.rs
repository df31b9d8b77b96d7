//! The way to the server, as a caller or a worker of an environment has it.

use std::sync::Arc;
use std::time::Duration;

use aiki_core::name::Name;
use aiki_core::run::RunStatus;
use aiki_core::server_client::{ClaimOutcome, ClaimReady, ClaimRuns, ClaimedRun, RunView, ServerLayer};
use aiki_core::{Report, ReportReceipt, RunId, ServerClient, ServerError};
use async_trait::async_trait;
use tokio::sync::watch;

use crate::broker::Broker;
use crate::crash::{Fate, Switch};
use crate::waits;

/// Who waits so long waits for the end of a run, and not just for a moment.
const FOR_THE_END: Duration = Duration::from_secs(30);
/// While a run is waited for, so many reports may be written: a run that goes round in circles, or one that
/// never ends while a schedule starts others, must not keep its test for ever.
pub(crate) const REPORTS: u64 = 20_000;
/// Those who wait look at the number of reports after so many.
const LOOK: u64 = 100;
/// A run that nobody serves is given up after this time: the server announces it again and again until then.
const UNSERVED: Duration = Duration::from_secs(86_400);
/// At most so many children are looked at.
const LOOKED_AT: usize = 20;
/// Workers wait for news for so long at a time: every end of a wait is a moment at which virtual time stops.
const NEWS: Duration = Duration::from_secs(365 * 86_400);
/// A lease that is stolen lasts so long.
const STOLEN: Duration = Duration::from_millis(1);

/// Whose way it is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Side {
    /// Waits for the end of a run at most so long, in virtual time, and for so many reports.
    Caller(Duration, u64),
    Worker,
}

#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) inner: Arc<dyn ServerClient>,
    pub(crate) side: Side,
    pub(crate) broker: Broker,
    pub(crate) switch: Switch,
    /// How many reports were written.
    pub(crate) reports: watch::Sender<u64>,
}

impl Link {
    fn lease(&self, asked: Duration) -> Duration {
        let stolen = self.broker.trouble().is_some_and(|trouble| trouble.steals());
        if stolen { STOLEN } else { asked }
    }

    fn count_report(&self) {
        self.reports.send_if_modified(|reports| {
            *reports += 1;
            reports.is_multiple_of(LOOK)
        });
    }

    /// Waits until the run has ended, or says what it waits for.
    async fn await_end(&self, run: RunId, patience: Duration, limit: u64) -> Result<RunView, ServerError> {
        let mut reports = self.reports.subscribe();
        let end = *reports.borrow() + limit;
        let why = tokio::select! {
            waited = self.await_served(run, patience) => {
                let (view, waited) = waited?;
                if view.state.is_terminal() {
                    return Ok(view);
                }
                format!("after {} days of virtual time", waited.as_secs() / 86_400)
            }
            _ = reports.wait_for(|reports| *reports >= end) => format!("after {limit} reports of the workers"),
        };
        let record = self.inner.get_run(run).await?;
        let unserved = self.inner.await_run(run, Duration::ZERO).await?.unserved;
        let waits = waits::describe(&record, unserved, &self.unserved_children(run).await?);
        Err(ServerError::IllegalTransition(format!("run {run} of {} has not ended {why}: {waits}", record.workflow)))
    }
}

impl Link {
    /// Whether all that the run waits for is children without a time limit, of which one is served by nobody.
    async fn is_stuck(&self, run: RunId) -> Result<bool, ServerError> {
        let record = self.inner.get_run(run).await?;
        Ok(waits::is_for_children_only(&record) && !self.unserved_children(run).await?.is_empty())
    }

    /// Children that no worker serves.
    async fn unserved_children(&self, run: RunId) -> Result<Vec<RunId>, ServerError> {
        let mut unserved = Vec::new();
        for child in self.inner.list_child_runs(run, &[RunStatus::Queued]).await?.into_iter().take(LOOKED_AT) {
            if self.inner.await_run(child.run, Duration::ZERO).await?.unserved {
                unserved.push(child.run);
            }
        }
        Ok(unserved)
    }

    /// Waits for the end, or until it is no use; answers how long that was at most.
    async fn await_served(&self, run: RunId, patience: Duration) -> Result<(RunView, Duration), ServerError> {
        let first = patience.min(UNSERVED);
        let view = self.inner.await_run(run, first).await?;
        if view.state.is_terminal() || view.unserved || self.is_stuck(run).await? {
            return Ok((view, first));
        }
        Ok((self.inner.await_run(run, patience - first).await?, patience))
    }
}

#[async_trait]
impl ServerLayer for Link {
    fn inner(&self) -> &Arc<dyn ServerClient> {
        &self.inner
    }

    async fn await_run(&self, run: RunId, timeout: Duration) -> Result<RunView, ServerError> {
        match self.side {
            Side::Caller(patience, reports) if timeout >= FOR_THE_END => self.await_end(run, patience, reports).await,
            _ => self.inner.await_run(run, timeout).await,
        }
    }

    async fn claim_runs(&self, request: ClaimRuns) -> Result<Vec<ClaimOutcome>, ServerError> {
        // Each claim by its own chance, the answers in the order of the request.
        let leases: Vec<_> = request.runs.iter().map(|_| self.lease(request.lease)).collect();
        if !leases.contains(&STOLEN) {
            return self.inner.claim_runs(request).await;
        }
        let mut outcomes = Vec::with_capacity(leases.len());
        for (run, lease) in request.runs.into_iter().zip(leases) {
            let worker = request.worker.clone();
            outcomes.extend(self.inner.claim_runs(ClaimRuns { worker, runs: vec![run], lease }).await?);
        }
        Ok(outcomes)
    }

    async fn claim_ready(&self, request: ClaimReady) -> Result<Vec<ClaimedRun>, ServerError> {
        let lease = self.lease(request.lease);
        self.inner.claim_ready(ClaimReady { lease, ..request }).await
    }

    async fn report(&self, report: Report) -> Result<ReportReceipt, ServerError> {
        let fate = self.switch.sending(&report);
        if fate == Fate::Lost {
            std::future::pending::<()>().await;
        }
        let receipt = self.inner.report(report.clone()).await?;
        self.count_report();
        self.switch.written(&report, fate);
        if fate == Fate::DiesUnanswered {
            std::future::pending::<()>().await;
        }
        if self.broker.trouble().is_some_and(|trouble| trouble.loses_answer()) {
            return Err(ServerError::Unavailable("the answer was lost".into()));
        }
        Ok(receipt)
    }

    async fn await_news(&self, worker: &Name, timeout: Duration) -> Result<Vec<RunId>, ServerError> {
        self.inner.await_news(worker, timeout.max(NEWS)).await
    }
}
