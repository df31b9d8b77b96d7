//! One worker's subscription.

use std::sync::{Arc, Weak};
use std::time::Duration;

use aiki_core::subscriber::{DeliveryLease, Guarantees, Receipt, ReleaseDelay};
use aiki_core::{Delivery, Subscriber, SubscriberError, Subscription};
use async_trait::async_trait;
use fred::interfaces::ClientLike;
use tokio::sync::{Mutex, oneshot};
use tokio::time::{Instant, sleep};

use crate::broker::Broker;
use crate::chance;
use crate::classify::Failure;
use crate::health::{Counters, Health};
use crate::intake::Intake;
use crate::io::IoThread;
use crate::link::{Link, Role};
use crate::pump::Pump;
use crate::streams::Streams;
use crate::timing::Timing;
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
    broker: Broker,
    intake: Arc<Intake>,
    watched: Arc<Watched>,
    began: Instant,
    /// How the loop ended; taken by the first `close`.
    ended: Mutex<Option<oneshot::Receiver<Result<(), SubscriberError>>>>,
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
        let streams = Arc::new(Streams::of(&subscription));
        if streams.all().len() > MAX_STREAMS {
            let count = streams.all().len();
            let text = format!(
                "the subscription has {count} streams (pools x workflow versions x 3), the limit is {MAX_STREAMS}"
            );
            return Err(SubscriberError::Misconfigured(text));
        }
        let io = IoThread::start("aiki-redis")?;
        let counters = Arc::new(Counters::new());
        let intake = Arc::new(Intake::new());
        let consumer = subscription.worker.as_str().to_owned();
        let (ended, end) = oneshot::channel();
        let begin = {
            let (url, counters, intake, consumer) = (url.clone(), counters.clone(), intake.clone(), consumer.clone());
            async move {
                let keep = |role| Link::keep(url.clone(), timing, role, counters.clone());
                let (control, reader, health) = (keep(Role::Control), keep(Role::Reader), keep(Role::Health));
                let patience = timing.command();
                control.first(patience).await.map_err(Failure::at_start)?;
                reader.first(patience).await.map_err(Failure::at_start)?;
                let broker = Broker { control, consumer, streams };
                let mut pump = Pump::new(broker.clone(), reader, health.clone(), intake, counters.clone(), timing);
                pump.make_groups().await.map_err(Failure::at_start)?;
                pump.try_everything().await.map_err(Failure::at_start)?;
                tokio::spawn(ask_for_health(health, counters, timing));
                tokio::spawn(pump.run(ended));
                Ok(broker)
            }
        };
        let broker = io.run(begin).await?;
        let watched = Arc::new(Watched { worker: consumer, intake: intake.clone(), counters });
        Ok(Self { io, timing, broker, intake, watched, began: Instant::now(), ended: Mutex::new(Some(end)) })
    }

    pub(crate) fn watched(&self) -> Weak<Watched> {
        Arc::downgrade(&self.watched)
    }

    fn open(&self) -> Result<(), SubscriberError> {
        if self.intake.is_closed() { Err(SubscriberError::Closed) } else { Ok(()) }
    }
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
        let (broker, intake, receipts) = (self.broker.clone(), self.intake.clone(), receipts.to_vec());
        self.io
            .run(async move {
                broker.ack(&receipts).await?;
                intake.forget(&receipts);
                Ok(())
            })
            .await
    }

    async fn heartbeat(&self, receipts: &[Receipt]) -> Result<Vec<DeliveryLease>, SubscriberError> {
        self.open()?;
        let (broker, intake, receipts) = (self.broker.clone(), self.intake.clone(), receipts.to_vec());
        self.io
            .run(async move {
                // The lease counts from when the renewal was sent.
                let sent = Instant::now();
                let leases = broker.renew(&receipts).await?;
                for (receipt, lease) in receipts.iter().zip(&leases) {
                    match lease {
                        DeliveryLease::Mine => intake.renewed(receipt, sent),
                        DeliveryLease::Others | DeliveryLease::Gone => intake.forget([receipt]),
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
        let (broker, intake, receipts) = (self.broker.clone(), self.intake.clone(), receipts.to_vec());
        self.io
            .run(async move {
                broker.hand_back(&receipts, idle_ms).await?;
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
        let Some(end) = ended.as_mut() else { return Ok(()) };
        let result = end.await;
        *ended = None;
        result.unwrap_or(Err(SubscriberError::Unavailable("the thread for redis ended".into())))
    }
}
