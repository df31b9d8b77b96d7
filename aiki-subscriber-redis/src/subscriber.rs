//! One worker's subscription.

use std::sync::{Arc, Weak};
use std::time::Duration;

use aiki_core::subscriber::{DeliveryLease, Guarantees, Receipt, ReleaseDelay};
use aiki_core::{Delivery, Subscriber, SubscriberError, Subscription};
use async_trait::async_trait;
use fred::interfaces::ClientLike;
use futures::future::join_all;
use tokio::sync::{Mutex, oneshot};
use tokio::time::{Instant, sleep};

use crate::broker::Broker;
use crate::chance;
use crate::classify::Failure;
use crate::eviction;
use crate::health::{Counters, Health};
use crate::intake::Intake;
use crate::io::IoThread;
use crate::link::{Link, Role};
use crate::place::Place;
use crate::pump::Pump;
use crate::streams::Streams;
use crate::timing::Timing;
use crate::topology;
use crate::url::RedisUrl;

/// Deliveries that one call of `receive` gets at most, whatever its limit.
const MAX_BATCH: usize = 1_000;
/// Streams that one subscription may have: they are named in every read.
const MAX_STREAMS: usize = 3_000;

/// A subscription. Dropped without [`close`](Subscriber::close), what it holds stays held until the lease lapses,
/// as after a crash.
#[derive(Debug)]
pub(crate) struct RedisSubscriber {
    io: IoThread,
    timing: Timing,
    /// One, or on a cluster one for each pool. Each leaves out what is another's.
    brokers: Vec<Broker>,
    intake: Arc<Intake>,
    watched: Arc<Watched>,
    began: Instant,
    /// How the loops ended; taken by the first `close`.
    ended: Mutex<Vec<oneshot::Receiver<Result<(), SubscriberError>>>>,
}

/// What can be seen of a subscription from outside.
#[derive(Debug)]
pub(crate) struct Watched {
    worker: String,
    intake: Arc<Intake>,
    counters: Arc<Counters>,
}

impl Watched {
    pub(crate) fn health(&self) -> Health {
        let (trouble, broken_streams, held) = self.intake.look();
        let mut health = Health {
            worker: self.worker.clone(),
            trouble,
            broken_streams,
            eviction_policy: None,
            since_read: None,
            since_tick: Duration::ZERO,
            since_ping: None,
            held,
            connections_lost: 0,
            connections_abandoned: 0,
            groups_recreated: 0,
            dead_letters: 0,
            taken_over: 0,
        };
        self.counters.fill(&mut health);
        health
    }
}

impl RedisSubscriber {
    pub(crate) async fn begin(
        url: &RedisUrl,
        timing: Timing,
        subscription: Subscription,
    ) -> Result<Self, SubscriberError> {
        let count = Streams::of(&subscription).all().len();
        if count > MAX_STREAMS {
            let text = format!(
                "the subscription has {count} streams (pools x workflow versions x 3), the limit is {MAX_STREAMS}"
            );
            return Err(SubscriberError::Misconfigured(text));
        }
        let io = IoThread::start("aiki-redis")?;
        let counters = Arc::new(Counters::new());
        let worker = subscription.worker.as_str().to_owned();
        let begin = begin(url.clone(), timing, subscription, counters.clone());
        let Begun { brokers, intake, ended } = io.run(async { begin.await.map_err(Failure::at_start) }).await?;
        let watched = Arc::new(Watched { worker, intake: intake.clone(), counters });
        Ok(Self { io, timing, brokers, intake, watched, began: Instant::now(), ended: Mutex::new(ended) })
    }

    pub(crate) fn watched(&self) -> Weak<Watched> {
        Arc::downgrade(&self.watched)
    }

    fn open(&self) -> Result<(), SubscriberError> {
        if self.intake.is_closed() { Err(SubscriberError::Closed) } else { Ok(()) }
    }
}

/// Waits for all, whatever becomes of one of them: what is asked of one node of a cluster does not depend on another.
async fn all<T>(asked: impl IntoIterator<Item = impl Future<Output = Result<T, Failure>>>) -> Result<Vec<T>, Failure> {
    join_all(asked).await.into_iter().collect()
}

/// What runs on the thread.
struct Begun {
    brokers: Vec<Broker>,
    intake: Arc<Intake>,
    ended: Vec<oneshot::Receiver<Result<(), SubscriberError>>>,
}

/// Connects, makes the streams, tries what will be needed, and only then begins to read.
async fn begin(
    url: RedisUrl,
    timing: Timing,
    subscription: Subscription,
    counters: Arc<Counters>,
) -> Result<Begun, Failure> {
    let keep = |place: &Place, role| Link::keep(url.clone(), place.clone(), timing, role, counters.clone());
    let patience = timing.command();
    let consumer = subscription.worker.as_str().to_owned();
    let first = keep(&Place::one(url.node()), Role::Control);
    first.first(patience).await?;
    let slots = topology::slots(&first, &url).await?;
    let parts = topology::parts(&url, slots.as_deref(), subscription);
    let mut first = match slots {
        None => Some(first),
        Some(_) => {
            // It may be at the wrong node.
            first.end().await;
            None
        }
    };
    let intake = Arc::new(Intake::new(parts.len()));
    let mut pumps = Vec::new();
    for (number, part) in parts.into_iter().enumerate() {
        let control = first.take().unwrap_or_else(|| keep(&part.place, Role::Control));
        let (reader, health) = (keep(&part.place, Role::Reader), keep(&part.place, Role::Health));
        control.first(patience).await?;
        reader.first(patience).await?;
        let streams = Arc::new(Streams::of(&part.subscription));
        let broker = Broker { control, consumer: consumer.clone(), streams };
        let mut pump = Pump::new(number, broker, reader, health, intake.clone(), counters.clone(), timing);
        pump.make_groups().await?;
        pump.try_everything().await?;
        counters.note_eviction(eviction::policy(&pump.broker.control).await);
        pumps.push(pump);
    }
    let mut begun = Begun { brokers: Vec::new(), intake, ended: Vec::new() };
    for pump in pumps {
        let (ended, end) = oneshot::channel();
        begun.brokers.push(pump.broker.clone());
        begun.ended.push(end);
        tokio::spawn(ask_for_health(pump.health.clone(), counters.clone(), timing));
        tokio::spawn(pump.run(ended));
    }
    Ok(begun)
}

/// Asks again and again whether Redis is well. A late answer is noted by the connection.
async fn ask_for_health(health: Link, counters: Arc<Counters>, timing: Timing) {
    loop {
        health.connected().await;
        if health.ask(|client| async move { client.ping::<String>(None).await }).await.is_ok() {
            counters.mark(|moments, now| moments.ping = Some(now));
        }
        sleep(chance::around(timing.sweep())).await;
    }
}

#[async_trait]
impl Subscriber for RedisSubscriber {
    async fn receive(&self, limit: usize) -> Result<Vec<Delivery>, SubscriberError> {
        self.intake.receive(limit.min(MAX_BATCH), Instant::now() + self.timing.block).await
    }

    async fn ack(&self, receipts: &[Receipt]) -> Result<(), SubscriberError> {
        self.open()?;
        let (brokers, intake, receipts) = (self.brokers.clone(), self.intake.clone(), receipts.to_vec());
        self.io
            .run(async move {
                all(brokers.iter().map(|broker| broker.ack(&receipts))).await?;
                intake.forget(&receipts);
                Ok(())
            })
            .await
    }

    async fn heartbeat(&self, receipts: &[Receipt]) -> Result<Vec<DeliveryLease>, SubscriberError> {
        self.open()?;
        let (brokers, intake, receipts) = (self.brokers.clone(), self.intake.clone(), receipts.to_vec());
        self.io
            .run(async move {
                // The lease counts from when the renewal was sent.
                let sent = Instant::now();
                let renewals = brokers.iter().map(|broker| async {
                    let leases = broker.renew(&receipts).await?;
                    for (receipt, lease) in receipts.iter().zip(&leases).filter(|(receipt, _)| broker.knows(receipt)) {
                        match lease {
                            DeliveryLease::Mine => intake.renewed(receipt, sent),
                            DeliveryLease::Others | DeliveryLease::Gone => intake.forget([receipt]),
                        }
                    }
                    Ok(leases)
                });
                let mut leases = vec![DeliveryLease::Gone; receipts.len()];
                for answers in all(renewals).await? {
                    // What another broker has to tell is `Gone` for this one.
                    for (lease, answer) in leases.iter_mut().zip(answers) {
                        *lease = if answer == DeliveryLease::Gone { *lease } else { answer };
                    }
                }
                Ok(leases)
            })
            .await
    }

    /// Delays beyond the lease are cut to it: Redis cannot keep an entry back for longer.
    async fn release(&self, receipts: &[Receipt], delay: ReleaseDelay) -> Result<(), SubscriberError> {
        self.open()?;
        let delay = match delay {
            ReleaseDelay::None => Duration::ZERO,
            // Redis counts whole milliseconds, and never too early.
            ReleaseDelay::After(delay) => delay + Duration::from_micros(999),
        };
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        let idle_ms = self.timing.lease_ms().saturating_sub(delay_ms);
        let (brokers, intake, receipts) = (self.brokers.clone(), self.intake.clone(), receipts.to_vec());
        self.io
            .run(async move {
                all(brokers.iter().map(|broker| broker.hand_back(&receipts, idle_ms))).await?;
                intake.forget(&receipts);
                Ok(())
            })
            .await
    }

    /// Nothing after an empty `receive`, which has waited by itself; otherwise 50 ms to 5 s, with jitter.
    fn next_delay(&self, failures: u32) -> Duration {
        match failures {
            0 => Duration::ZERO,
            failures => chance::up_to(self.timing.pause(failures)),
        }
    }

    fn guarantees(&self) -> Guarantees {
        Guarantees { redelivers_after: Some(self.timing.lease), waits: true }
    }

    /// By what Redis said: a `receive` that waited in vain may have heard nothing from it.
    fn since_answer(&self) -> Option<Duration> {
        // It answered when the subscription began.
        Some(self.watched.health().since_read.unwrap_or_else(|| self.began.elapsed()))
    }

    async fn close(&self) -> Result<(), SubscriberError> {
        self.intake.close();
        let mut ended = self.ended.lock().await;
        let results = join_all(ended.iter_mut()).await;
        ended.clear();
        let lost = || Err(SubscriberError::Unavailable("the thread for redis ended".into()));
        results.into_iter().try_for_each(|result| result.unwrap_or_else(|_| lost()))
    }
}
