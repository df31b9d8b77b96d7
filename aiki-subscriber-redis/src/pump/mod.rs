//! The loop that reads. One task does everything that takes entries, one thing after the other, so nobody else
//! has to guess whether an entry in our pending list is on its way or lost.

mod groups;
mod parse;
mod read;
mod recovery;

use std::sync::Arc;
use std::time::Duration;

use aiki_core::SubscriberError;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use crate::broker::Broker;
use crate::chance;
use crate::classify::{Failure, Trouble};
use crate::health::Counters;
use crate::intake::Intake;
use crate::key::LANES;
use crate::link::Link;
use crate::streams::Streams;
use crate::timing::Timing;

/// How long the end of a subscription may take.
const CLOSING: Duration = Duration::from_secs(3);
/// A worker that waits for work has called `receive` again by then.
const BETWEEN_CALLS: Duration = Duration::from_millis(20);
/// Consumers that hold nothing and were not heard of for so long are deleted.
const OLD_CONSUMER_MS: u64 = 24 * 60 * 60 * 1000;
/// How often that is looked for.
const CLEANING: Duration = Duration::from_secs(60 * 60);

pub(crate) struct Pump {
    /// Which of the subscription's loops this is.
    number: usize,
    pub(crate) streams: Arc<Streams>,
    pub(crate) intake: Arc<Intake>,
    pub(crate) broker: Broker,
    pub(crate) reader: Link,
    pub(crate) health: Link,
    pub(crate) counters: Arc<Counters>,
    pub(crate) timing: Timing,
    state: State,
}

/// What the loop remembers from one round to the next.
struct State {
    /// The streams have to be made, or made again.
    regroup: bool,
    /// They were never made before.
    first: bool,
    /// Entries may be ours without our knowing.
    check_own: bool,
    /// Streams that are of another type.
    broken: Vec<bool>,
    /// How many deliveries in a row each lane has had while others waited.
    streak: [u32; LANES.len()],
    /// Where the next read begins in each lane.
    from: [usize; LANES.len()],
    /// Nothing is left to take at once: wait for more.
    drained: bool,
    /// Where the next look for abandoned entries begins in each stream.
    cursors: Vec<String>,
    next_sweep: Instant,
    /// Until then only what was handed back is taken over.
    grace_until: Instant,
    next_cleaning: Instant,
    /// How many suspicions that Redis stood still were dealt with.
    suspicions: u64,
}

impl Pump {
    pub(crate) fn new(
        number: usize,
        broker: Broker,
        reader: Link,
        health: Link,
        intake: Arc<Intake>,
        counters: Arc<Counters>,
        timing: Timing,
    ) -> Self {
        let streams = broker.streams.clone();
        let count = streams.all().len();
        let now = Instant::now();
        let state = State {
            regroup: true,
            first: true,
            check_own: false,
            broken: vec![false; count],
            streak: [0; LANES.len()],
            from: [0; LANES.len()],
            drained: false,
            cursors: vec!["-".into(); count],
            // What was handed back is there for the taking. The rest may only look abandoned: Redis may have
            // been back for a moment only.
            next_sweep: now,
            grace_until: now + timing.grace(),
            next_cleaning: now,
            suspicions: counters.suspicions(),
        };
        Self { number, streams, intake, broker, reader, health, counters, timing, state }
    }

    /// Until the subscription is closed; then hands everything back and says how that went.
    pub(crate) async fn run(mut self, ended: oneshot::Sender<Result<(), SubscriberError>>) {
        let mut failures = 0;
        while !self.intake.is_closed() {
            self.counters.mark(|moments, now| moments.tick = now);
            match self.round().await {
                Ok(()) => {
                    failures = 0;
                    self.intake.set_trouble(self.number, None);
                }
                Err(failure) => {
                    // Streams that went with an old Redis are made again at once, however long it was away.
                    failures = if failure.trouble == Trouble::GroupLost { 1 } else { failures + 1 };
                    self.react(&failure, failures);
                    self.intake.set_trouble(self.number, Some(failure.text.clone()));
                    let pause = chance::up_to(self.timing.pause(failures));
                    // Who builds a connection again has paused already.
                    let lost = self.broker.control.live().is_err() || self.reader.live().is_err();
                    let both = async { tokio::join!(self.broker.control.connected(), self.reader.connected()) };
                    tokio::select! {
                        () = sleep(pause) => {}
                        _ = both, if lost => {}
                        () = self.intake.closing() => {}
                    }
                    if failure.ends_connection() {
                        let both = async { tokio::join!(self.broker.control.connected(), self.reader.connected()) };
                        tokio::select! {
                            _ = timeout(self.timing.buffered(), both) => {}
                            () = self.intake.closing() => {}
                        }
                    }
                }
            }
        }
        // Whoever asked may have gone.
        let _ = ended.send(self.finish().await);
    }

    /// What a failure asks for, besides waiting.
    fn react(&mut self, failure: &Failure, failures: u32) {
        match failure.trouble {
            // A key of another type makes a read of many streams fail as a whole; making groups finds it.
            Trouble::GroupLost | Trouble::WrongType => self.state.regroup = true,
            Trouble::Connection => self.state.check_own = true,
            // A replica now, and another server may be behind the address already; or the hash slot has moved.
            Trouble::WrongServer | Trouble::Moved => {
                self.broker.control.give_up_after(failure);
                self.reader.give_up_after(failure);
                self.health.give_up_after(failure);
                self.state.check_own = true;
            }
            _ => {}
        }
        if failures == 1 || failures.is_power_of_two() {
            tracing::warn!(trouble = ?failure.trouble, error = failure.text, failures, "reading from redis failed");
        }
    }

    /// One thing that needs doing.
    async fn round(&mut self) -> Result<(), Failure> {
        self.broker.control.live()?;
        self.reader.live()?;
        if self.state.regroup {
            self.make_groups().await?;
            self.state.regroup = false;
        }
        if self.counters.suspicions() != self.state.suspicions {
            self.begin_grace().await?;
        }
        if self.state.check_own {
            self.take_own().await?;
            self.state.check_own = false;
        }
        let unwanted = self.intake.unwanted(self.timing.buffered(), |receipt| self.streams.knows(receipt));
        if !unwanted.is_empty() {
            self.give_up(&unwanted).await?;
        }
        if Instant::now() >= self.state.next_cleaning {
            self.state.next_cleaning = Instant::now() + CLEANING;
            self.broker.delete_old_consumers(OLD_CONSUMER_MS).await?;
        }
        let reserved = self.intake.reserve();
        let free = reserved.count;
        if free == 0 {
            drop(reserved);
            let begin = Instant::now();
            self.intake.wait_for_demand(self.timing.buffered()).await;
            // From one call of `receive` to the next nothing has piled up.
            self.state.drained &= begin.elapsed() < BETWEEN_CALLS;
            return Ok(());
        }
        if Instant::now() >= self.state.next_sweep && self.sweep(free).await? > 0 {
            return Ok(());
        }
        if !self.state.drained && self.take(free).await? > 0 {
            return Ok(());
        }
        self.state.drained = true;
        // A read that waits must not keep the other loops from taking.
        drop(reserved);
        self.wait_and_read(free).await
    }

    async fn finish(&mut self) -> Result<(), SubscriberError> {
        let work = async {
            // What this loop asks for is answered: nothing is on its way to us.
            self.broker.hand_back(&self.intake.held(), self.timing.lease_ms()).await?;
            if self.state.check_own {
                let own = self.own_entries().await?;
                self.broker.hand_back(&own, self.timing.lease_ms()).await?;
            }
            self.broker.delete_consumer().await
        };
        let done = match timeout(CLOSING, work).await {
            Ok(done) => done.map_err(SubscriberError::from),
            Err(_) => Err(SubscriberError::Unavailable("redis did not answer while closing".into())),
        };
        tokio::join!(self.reader.end(), self.broker.control.end(), self.health.end());
        done
    }
}
