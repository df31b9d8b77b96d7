//! The tools of a case: calls that are checked, bounded in time, and repeated when the backend says
//! that it is unavailable.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aiki_core::subscriber::{DeliveryLease, Receipt, ReleaseDelay};
use aiki_core::{Delivery, Name, Priority, ReadyRun, RunId, Subscriber, SubscriberError, Subscription, WorkflowKey};
use tokio::time::{Instant, timeout};

use super::failure::{CaseFailure, CaseResult};
use super::harness::Harness;

/// Calls are repeated so often at most while the backend is unavailable.
const MAX_FAILURES: u32 = 50;

/// Time that a call may take which does not wait for anything.
const CALL_TIME: Duration = Duration::from_secs(10);

pub(super) struct Bench<'a> {
    pub(super) harness: &'a dyn Harness,
    case: &'static str,
}

impl<'a> Bench<'a> {
    pub(super) fn new(case: &'static str, harness: &'a dyn Harness) -> Self {
        Self { harness, case }
    }

    pub(super) fn fail(&self, reason: impl Into<String>) -> CaseFailure {
        CaseFailure { case: self.case, reason: reason.into() }
    }

    pub(super) fn ensure(&self, condition: bool, reason: impl FnOnce() -> String) -> CaseResult {
        if condition { Ok(()) } else { Err(self.fail(reason())) }
    }

    /// C, the time after which an abandoned delivery moves on.
    pub(super) fn lease(&self) -> Duration {
        self.harness.claim_min_idle_time()
    }

    pub(super) async fn pass(&self, duration: Duration) {
        self.harness.pass_time(duration).await;
    }

    /// The workflow of cases that need only one.
    pub(super) fn orders(&self) -> WorkflowKey {
        WorkflowKey::user("orders", "1.0.0")
    }

    /// New runs of [`orders`](Self::orders).
    pub(super) fn runs(&self, count: usize) -> Vec<ReadyRun> {
        self.runs_of(&self.orders(), count)
    }

    pub(super) fn runs_of(&self, workflow: &WorkflowKey, count: usize) -> Vec<ReadyRun> {
        static LAST: AtomicU64 = AtomicU64::new(1);
        let run = || ReadyRun {
            id: RunId::from_bits(u128::from(LAST.fetch_add(1, Ordering::Relaxed)) << 24),
            namespace: self.harness.namespace(),
            workflow: workflow.clone(),
            pool: None,
            priority: Priority::Normal,
        };
        std::iter::repeat_with(run).take(count).collect()
    }

    pub(super) async fn publish(&self, runs: &[ReadyRun]) -> CaseResult {
        let report = self.harness.publisher().publish(runs).await;
        self.ensure(report.failed.is_empty(), || format!("publish refused {:?}", report.failed))
    }

    /// A subscription to [`orders`](Self::orders) without pools.
    pub(super) async fn subscribe(&self, worker: &str) -> Result<Box<dyn Subscriber>, CaseFailure> {
        self.subscribe_to(worker, &[self.orders()], &[]).await
    }

    pub(super) async fn subscribe_to(
        &self,
        worker: &str,
        workflows: &[WorkflowKey],
        pools: &[&str],
    ) -> Result<Box<dyn Subscriber>, CaseFailure> {
        let subscription = Subscription {
            worker: Name::new(worker),
            namespace: self.harness.namespace(),
            workflows: workflows.to_vec(),
            pools: pools.iter().copied().map(Name::new).collect(),
        };
        for _ in 0..MAX_FAILURES {
            match timeout(CALL_TIME, self.harness.factory().subscribe(subscription.clone())).await {
                Ok(Ok(subscriber)) => return Ok(subscriber),
                Ok(Err(SubscriberError::Unavailable(_))) => self.pass(Duration::from_millis(10)).await,
                Ok(Err(error)) => return Err(self.fail(format!("subscribe failed: {error}"))),
                Err(_) => return Err(self.fail("subscribe did not return")),
            }
        }
        Err(self.fail("subscribe never succeeded"))
    }

    /// One `receive`: it returns in time and keeps to the limit.
    pub(super) async fn receive(&self, from: &dyn Subscriber, limit: usize) -> Result<Vec<Delivery>, CaseFailure> {
        match self.receive_or_error(from, limit).await? {
            Ok(deliveries) => Ok(deliveries),
            Err(error) => Err(self.fail(format!("receive failed: {error}"))),
        }
    }

    /// One `receive` that may also answer with an error other than unavailable.
    pub(super) async fn receive_or_error(
        &self,
        from: &dyn Subscriber,
        limit: usize,
    ) -> Result<Result<Vec<Delivery>, SubscriberError>, CaseFailure> {
        // Faults may delay a call beyond its own waiting time.
        let longest = self.harness.longest_receive() + CALL_TIME;
        for failures in 1..=MAX_FAILURES {
            match timeout(longest, from.receive(limit)).await {
                Ok(Ok(deliveries)) if deliveries.len() > limit => {
                    let count = deliveries.len();
                    return Err(self.fail(format!("receive({limit}) delivered {count}")));
                }
                Ok(Err(SubscriberError::Unavailable(_))) => self.pass(from.next_delay(failures)).await,
                Ok(answer) => return Ok(answer),
                Err(_) => return Err(self.fail(format!("receive did not return within {longest:?}"))),
            }
        }
        Err(self.fail("receive never succeeded"))
    }

    /// Receives until `count` different runs came, at most `limit` with a call; at most `within`.
    pub(super) async fn collect(
        &self,
        from: &dyn Subscriber,
        count: usize,
        limit: usize,
        within: Duration,
    ) -> Result<Vec<Delivery>, CaseFailure> {
        let begin = Instant::now();
        let mut runs = BTreeSet::new();
        let mut collected = Vec::new();
        loop {
            let deliveries = self.receive(from, limit).await?;
            let nothing = deliveries.is_empty();
            collected.extend(deliveries.into_iter().filter(|delivery| runs.insert(delivery.run)));
            if collected.len() >= count {
                return Ok(collected);
            }
            if begin.elapsed() > within {
                let got = collected.len();
                return Err(self.fail(format!("{got} of {count} expected runs were delivered within {within:?}")));
            }
            if nothing {
                self.pause(from).await;
            }
        }
    }

    /// `count` runs that should be there without waiting for any lease.
    pub(super) async fn collect_soon(&self, from: &dyn Subscriber, count: usize) -> Result<Vec<Delivery>, CaseFailure> {
        self.collect(from, count, count.clamp(1, 64), self.harness.slack()).await
    }

    /// One run that should be there without waiting for any lease.
    pub(super) async fn one(&self, from: &dyn Subscriber) -> Result<Delivery, CaseFailure> {
        self.collect_soon(from, 1).await?.pop().ok_or_else(|| self.fail("nothing was delivered"))
    }

    /// Nothing is delivered for at least this long.
    pub(super) async fn nothing(&self, from: &dyn Subscriber, during: Duration) -> CaseResult {
        let begin = Instant::now();
        loop {
            let left = during.saturating_sub(begin.elapsed());
            if left.is_zero() {
                return Ok(());
            }
            // The waiting may outlast the time that is meant; what comes then is none of our business.
            let received = tokio::select! {
                biased;
                received = self.receive(from, 64) => received?,
                () = self.pass(left) => return Ok(()),
            };
            if let Some(delivery) = received.first() {
                let (run, after) = (delivery.run, begin.elapsed());
                return Err(self.fail(format!("run {run} was delivered after {after:?}, though nothing was due")));
            }
            self.pause(from).await;
        }
    }

    /// The pause after a `receive` that found nothing.
    async fn pause(&self, from: &dyn Subscriber) {
        // A backend that neither waits nor pauses would otherwise spin.
        self.pass(from.next_delay(0).max(Duration::from_millis(1))).await;
    }

    pub(super) async fn ack(&self, by: &dyn Subscriber, receipts: &[Receipt]) -> CaseResult {
        for failures in 1..=MAX_FAILURES {
            if self.settled("ack", by, failures, by.ack(receipts)).await?.is_some() {
                return Ok(());
            }
        }
        Err(self.fail("ack never succeeded"))
    }

    pub(super) async fn heartbeat(
        &self,
        by: &dyn Subscriber,
        receipts: &[Receipt],
    ) -> Result<Vec<DeliveryLease>, CaseFailure> {
        for failures in 1..=MAX_FAILURES {
            if let Some(leases) = self.settled("heartbeat", by, failures, by.heartbeat(receipts)).await? {
                let (asked, answered) = (receipts.len(), leases.len());
                self.ensure(asked == answered, || format!("heartbeat of {asked} receipts gave {answered} answers"))?;
                return Ok(leases);
            }
        }
        Err(self.fail("heartbeat never succeeded"))
    }

    /// The renewal of one delivery.
    pub(super) async fn lease_of(
        &self,
        by: &dyn Subscriber,
        delivery: &Delivery,
    ) -> Result<DeliveryLease, CaseFailure> {
        let leases = self.heartbeat(by, std::slice::from_ref(&delivery.receipt)).await?;
        leases.first().copied().ok_or_else(|| self.fail("heartbeat gave no answer"))
    }

    pub(super) async fn release(&self, by: &dyn Subscriber, receipts: &[Receipt], delay: ReleaseDelay) -> CaseResult {
        for failures in 1..=MAX_FAILURES {
            if self.settled("release", by, failures, by.release(receipts, delay)).await?.is_some() {
                return Ok(());
            }
        }
        Err(self.fail("release never succeeded"))
    }

    pub(super) async fn close(&self, by: &dyn Subscriber) -> CaseResult {
        // The subscription is over, whatever the answer.
        self.settled("close", by, 1, by.close()).await.map(|_| ())
    }

    /// `None` when the call is to be repeated.
    async fn settled<T>(
        &self,
        name: &str,
        by: &dyn Subscriber,
        failures: u32,
        call: impl Future<Output = Result<T, SubscriberError>>,
    ) -> Result<Option<T>, CaseFailure> {
        match timeout(CALL_TIME, call).await {
            Ok(Ok(answer)) => Ok(Some(answer)),
            Ok(Err(SubscriberError::Unavailable(_))) => {
                self.pass(by.next_delay(failures)).await;
                Ok(None)
            }
            Ok(Err(error)) => Err(self.fail(format!("{name} failed: {error}"))),
            Err(_) => Err(self.fail(format!("{name} did not return"))),
        }
    }
}

pub(super) fn receipts(deliveries: &[Delivery]) -> Vec<Receipt> {
    deliveries.iter().map(|delivery| delivery.receipt.clone()).collect()
}

pub(super) fn delivered(deliveries: &[Delivery]) -> BTreeSet<RunId> {
    deliveries.iter().map(|delivery| delivery.run).collect()
}

pub(super) fn ids(runs: &[ReadyRun]) -> BTreeSet<RunId> {
    runs.iter().map(|run| run.id).collect()
}
