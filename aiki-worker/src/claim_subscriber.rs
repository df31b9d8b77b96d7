//! Receiving without a transport: runs are claimed straight from the server.

use std::convert::Infallible;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aiki_core::name::Name;
use aiki_core::server_client::{ClaimReady, ClaimRef, ClaimedRun};
use aiki_core::subscriber::{
    Delivery, DeliveryLease, Guarantees, Receipt, ReleaseDelay, Subscriber, SubscriberError, SubscriberFactory,
    Subscription,
};
use aiki_core::{CancellationToken, Client, ServerClient, ServerError};
use aiki_runtime::{Entropy, SystemEntropy};
use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::backoff;

/// The server's lease when nothing else is said.
pub(crate) const DEFAULT_LEASE: Duration = Duration::from_secs(60);
/// Time between two questions that found nothing.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// How long the server may keep a question while nothing is ready. Less than a worker may take to prove that it
/// consumes.
const WAIT: Duration = Duration::from_secs(10);

/// Claims runs straight from the server. It needs no transport, so a worker without a subscriber uses it.
///
/// While nothing is ready a server of this implementation keeps the question, and answers it when a run gets ready;
/// of others it asks once a second.
///
/// A server that announces its runs leaves them for a second to those who listen.
///
/// After an error it asks again later and later, up to every 30 s.
#[derive(Clone)]
pub struct ClaimSubscriber {
    server: Arc<dyn ServerClient>,
    entropy: Arc<dyn Entropy>,
    owner: Option<Name>,
    lease: Duration,
    poll_interval: Duration,
    wait: Duration,
}

impl ClaimSubscriber {
    /// Claims through this client, for 60 s at a time.
    pub fn new(client: &Client) -> Self {
        Self {
            server: client.server().clone(),
            entropy: Arc::new(SystemEntropy),
            owner: None,
            lease: DEFAULT_LEASE,
            poll_interval: POLL_INTERVAL,
            wait: WAIT,
        }
    }

    /// How long a claim lasts unless it is prolonged. Default 60 s.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// The shortest time between two questions that find nothing. Default 1 s.
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.poll_interval = interval;
        self
    }

    /// How long the server may keep a question while nothing is ready. Default 10 s; zero has it answer at once.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Claims under this name, whatever the subscription's own is.
    pub(crate) fn owner(mut self, name: Name) -> Self {
        self.owner = Some(name);
        self
    }

    pub(crate) fn entropy(mut self, entropy: Arc<dyn Entropy>) -> Self {
        self.entropy = entropy;
        self
    }
}

impl fmt::Debug for ClaimSubscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClaimSubscriber")
            .field("lease", &self.lease)
            .field("poll_interval", &self.poll_interval)
            .field("wait", &self.wait)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl SubscriberFactory for ClaimSubscriber {
    async fn subscribe(&self, subscription: Subscription) -> Result<Box<dyn Subscriber>, SubscriberError> {
        let worker = self.owner.clone().unwrap_or_else(|| subscription.worker.clone());
        let (calls, kept) = (Calls::new(), AtomicU64::new(0));
        Ok(Box::new(Claiming { settings: self.clone(), worker, subscription, calls, kept }))
    }

    fn claim_min_idle_time(&self) -> Option<Duration> {
        Some(self.lease)
    }

    fn claims_from_server(&self) -> bool {
        true
    }
}

struct Claiming {
    settings: ClaimSubscriber,
    worker: Name,
    subscription: Subscription,
    calls: Calls,
    /// How long the last question was kept, in milliseconds.
    kept: AtomicU64,
}

/// Ends a wait with the future that wanted it.
struct Enough(CancellationToken);

impl Drop for Enough {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

#[async_trait]
impl Subscriber for Claiming {
    async fn receive(&self, limit: usize) -> Result<Vec<Delivery>, SubscriberError> {
        let call = self.calls.begin().ok_or(SubscriberError::Closed)?;
        let request = ClaimReady {
            worker: self.worker.clone(),
            workflows: self.subscription.workflows.clone(),
            pools: self.subscription.pools.clone(),
            limit,
            lease: self.settings.lease,
        };
        // The question goes on when this future is dropped, and what it claims is given back.
        let (answer, asked) = oneshot::channel();
        let (server, worker) = (self.settings.server.clone(), self.worker.clone());
        let (began, wait, enough) = (Instant::now(), self.settings.wait, CancellationToken::new());
        let _enough = Enough(enough.clone());
        tokio::spawn(async move {
            let result = server.await_ready(request, wait, &enough).await;
            let result = result.map(|runs| Claimed { runs, server: server.clone(), worker, call });
            // Nobody may be listening any more: dropping the answer gives the claims back.
            drop(answer.send(result));
        });
        let answered = asked.await;
        self.kept.store(began.elapsed().as_millis() as u64, Ordering::Relaxed);
        match answered {
            Ok(Ok(claimed)) => Ok(claimed.take().into_iter().map(delivery).collect()),
            Ok(Err(error @ ServerError::Unauthorized(_))) => Err(SubscriberError::Misconfigured(error.to_string())),
            // What is unavailable is said once.
            Ok(Err(ServerError::Unavailable(reason))) => Err(SubscriberError::Unavailable(reason)),
            Ok(Err(error)) => Err(SubscriberError::Unavailable(error.to_string())),
            Err(_) => Err(SubscriberError::Unavailable("the question to the server was cut short".into())),
        }
    }

    async fn ack(&self, _receipts: &[Receipt]) -> Result<(), SubscriberError> {
        Ok(())
    }

    async fn heartbeat(&self, receipts: &[Receipt]) -> Result<Vec<DeliveryLease>, SubscriberError> {
        Ok(vec![DeliveryLease::Mine; receipts.len()])
    }

    async fn release(&self, _receipts: &[Receipt], _delay: ReleaseDelay) -> Result<(), SubscriberError> {
        Ok(())
    }

    fn next_delay(&self, failures: u32) -> Duration {
        match failures {
            // A server that has kept the question is asked again at once.
            0 => self.settings.poll_interval.saturating_sub(Duration::from_millis(self.kept.load(Ordering::Relaxed))),
            failures => backoff::INTAKE.delay(failures, self.settings.entropy.next_u64()),
        }
    }

    fn guarantees(&self) -> Guarantees {
        Guarantees { redelivers_after: None, waits: false }
    }

    async fn close(&self) -> Result<(), SubscriberError> {
        self.calls.end().await;
        Ok(())
    }
}

fn delivery(claimed: ClaimedRun) -> Delivery {
    Delivery {
        run: claimed.record.id,
        workflow: claimed.record.workflow.clone(),
        receipt: Receipt(format!("{}/{}", claimed.record.id, claimed.epoch)),
        claimed: Some(Box::new(claimed)),
    }
}

/// Lives as long as a question to the server, or the return of what it claimed, is under way.
type Call = mpsc::Sender<Infallible>;

/// The calls under way, until the subscription is closed.
struct Calls(Mutex<Option<(Call, mpsc::Receiver<Infallible>)>>);

impl Calls {
    fn new() -> Self {
        Self(Mutex::new(Some(mpsc::channel(1))))
    }

    /// A new call; `None` when closed.
    fn begin(&self) -> Option<Call> {
        let calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        calls.as_ref().map(|(call, _)| call.clone())
    }

    /// Begins no more calls, and waits until those under way have ended: whoever stops knows then that
    /// nothing is left claimed. The caller limits how long.
    async fn end(&self) {
        let calls = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((own, mut ended)) = calls {
            drop(own);
            // Nothing is ever sent: this ends when the last call has.
            ended.recv().await;
        }
    }
}

/// Claims that are given back unless somebody takes them.
struct Claimed {
    runs: Vec<ClaimedRun>,
    server: Arc<dyn ServerClient>,
    worker: Name,
    call: Call,
}

impl Claimed {
    fn take(mut self) -> Vec<ClaimedRun> {
        std::mem::take(&mut self.runs)
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        let claims: Vec<ClaimRef> =
            self.runs.iter().map(|claimed| ClaimRef { run: claimed.record.id, epoch: claimed.epoch }).collect();
        if claims.is_empty() {
            return;
        }
        // Without a runtime there is nothing to do: the leases lapse.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (server, worker, call) = (self.server.clone(), self.worker.clone(), self.call.clone());
            runtime.spawn(async move {
                drop(server.release_runs(&worker, &claims).await);
                drop(call);
            });
        }
    }
}
