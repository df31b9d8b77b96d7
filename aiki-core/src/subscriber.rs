//! Receiving ready runs: the traits that a transport implements.
//!
//! A delivery is a hint that a run may be ready. It grants nothing: the worker claims the run from
//! the server before it touches it. So a transport may deliver late, twice or never; the server makes
//! up for it.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use crate::id::RunId;
use crate::name::{Name, WorkflowKey};
use crate::server_client::ClaimedRun;

/// What a worker wants to receive.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// The worker's name, unique per process start: no two subscriptions share it.
    pub worker: Name,
    /// The tenant.
    pub namespace: Name,
    /// The workflow versions that the worker serves. Nothing else is delivered.
    pub workflows: Vec<WorkflowKey>,
    /// The pools that the worker belongs to; empty means runs without a pool.
    pub pools: Vec<Name>,
}

/// One delivery of a ready run. It stays with its subscriber until it is acknowledged or released.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// The run.
    pub run: RunId,
    /// Its code.
    pub workflow: WorkflowKey,
    /// Names the delivery to the subscriber that made it.
    pub receipt: Receipt,
    /// Set by a subscriber that claims from the server itself: the worker need not claim again.
    pub claimed: Option<Box<ClaimedRun>>,
}

/// A subscriber's own name for a delivery.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Receipt(pub String);

/// The answer to the renewal of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryLease {
    /// The delivery is still this subscriber's.
    Mine,
    /// Another subscriber took it over. That alone never stops a handler: only the server does.
    Others,
    /// The transport knows nothing of it.
    Gone,
}

/// When a released delivery may be delivered again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseDelay {
    /// At once, to anybody.
    None,
    /// After this time at the earliest.
    After(Duration),
}

/// What a subscriber promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guarantees {
    /// A delivery that its subscriber neither acknowledges nor renews for this long is delivered to
    /// another one. `None`: the transport forgets it, and the server announces the run again.
    pub redelivers_after: Option<Duration>,
    /// `receive` waits for a delivery; it does not have to be polled.
    pub waits: bool,
}

/// A transport's failure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscriberError {
    /// The transport cannot be reached or answers with trouble of its own: try again later.
    #[error("the transport is unavailable: {0}")]
    Unavailable(String),
    /// Trying again cannot help: bad credentials, a bad address, a right that is missing.
    #[error("the transport cannot be used: {0}")]
    Misconfigured(String),
    /// The subscriber was closed.
    #[error("the subscriber is closed")]
    Closed,
}

impl SubscriberError {
    /// What happened, without the words that say which kind of failure it is: for a text that names the kind itself.
    pub fn reason(&self) -> &str {
        match self {
            SubscriberError::Unavailable(reason) | SubscriberError::Misconfigured(reason) => reason,
            SubscriberError::Closed => "the subscriber is closed",
        }
    }
}

/// A subscription of one worker to ready runs.
#[async_trait]
pub trait Subscriber: Send + Sync + 'static {
    /// Waits for deliveries and returns at least one and at most `limit`, or none after a while.
    ///
    /// Cancel-safe: when the future is dropped, nothing that was taken for it is lost; it is
    /// delivered by a later call, or to another subscriber.
    ///
    /// # Errors
    /// [`SubscriberError`]; the caller waits for [`next_delay`](Self::next_delay) and tries again.
    async fn receive(&self, limit: usize) -> Result<Vec<Delivery>, SubscriberError>;

    /// Settles deliveries for good. Unknown receipts are ignored.
    ///
    /// # Errors
    /// [`SubscriberError`]; deliveries that stay unsettled come again, which is harmless.
    async fn ack(&self, receipts: &[Receipt]) -> Result<(), SubscriberError>;

    /// Renews deliveries that are being worked on. The answers are in the order of the receipts.
    ///
    /// # Errors
    /// [`SubscriberError`]; the deliveries may then be delivered to others as well.
    async fn heartbeat(&self, receipts: &[Receipt]) -> Result<Vec<DeliveryLease>, SubscriberError>;

    /// Hands deliveries back, for anybody to receive after `delay`.
    ///
    /// # Errors
    /// [`SubscriberError`]; the deliveries then come again when their lease has lapsed.
    async fn release(&self, receipts: &[Receipt], delay: ReleaseDelay) -> Result<(), SubscriberError>;

    /// How long to wait before the next `receive`, after `failures` failures in a row (0: after a
    /// success without deliveries).
    fn next_delay(&self, failures: u32) -> Duration;

    /// What this subscriber promises.
    fn guarantees(&self) -> Guarantees;

    /// Time since the transport itself last answered a question for deliveries. `None`: nobody knows; then
    /// each `receive` that succeeds counts as an answer.
    ///
    /// For a subscriber whose `receive` may return empty-handed by a timer of its own, without the
    /// transport having said anything.
    fn since_answer(&self) -> Option<Duration> {
        None
    }

    /// Ends the subscription: what is held is handed back, whoever waits in `receive` gets
    /// [`SubscriberError::Closed`].
    ///
    /// # Errors
    /// [`SubscriberError`]; the subscription is over all the same.
    async fn close(&self) -> Result<(), SubscriberError>;
}

/// Makes subscriptions: what a worker is configured with.
#[async_trait]
pub trait SubscriberFactory: fmt::Debug + Send + Sync + 'static {
    /// Begins a subscription.
    ///
    /// # Errors
    /// [`SubscriberError::Unavailable`] when trying again later may help,
    /// [`SubscriberError::Misconfigured`] when not.
    async fn subscribe(&self, subscription: Subscription) -> Result<Box<dyn Subscriber>, SubscriberError>;

    /// The time after which an abandoned delivery goes to another worker, if the transport has one.
    /// The worker's heartbeat must be faster: at most half of it.
    fn claim_min_idle_time(&self) -> Option<Duration>;

    /// Whether runs are claimed from the server itself, without a transport that could be away. A worker
    /// with any other subscriber has one of these as its backup.
    fn claims_from_server(&self) -> bool {
        false
    }
}

#[async_trait]
impl<F: SubscriberFactory + ?Sized> SubscriberFactory for std::sync::Arc<F> {
    async fn subscribe(&self, subscription: Subscription) -> Result<Box<dyn Subscriber>, SubscriberError> {
        (**self).subscribe(subscription).await
    }

    fn claim_min_idle_time(&self) -> Option<Duration> {
        (**self).claim_min_idle_time()
    }

    fn claims_from_server(&self) -> bool {
        (**self).claims_from_server()
    }
}
