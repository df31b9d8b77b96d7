//! Faults, carried out.

use std::sync::{Arc, Mutex as Lock, PoisonError};
use std::time::Duration;

use rustix::process::Signal;
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::clock::Clock;
use super::disk::{self, Filling, SlowSync};
use super::fail_point::SlowCommits;
use super::house::{Broken, House};
use super::notes::monotonic_us;
use super::plan::{Kind, Place, Planned};
use super::profile::LEASE;
use super::streams;
use crate::redis::{Mode, Proxy};

/// A fault that was injected.
#[derive(Clone, Debug, Serialize)]
pub struct Injected {
    /// What.
    pub kind: Kind,
    /// The worker that it troubled, if it was one.
    pub worker: Option<String>,
    /// When it began, in microseconds of the monotonic clock.
    pub from_us: u64,
    /// When its cause was gone.
    pub until_us: u64,
    /// How long the process needed to end, where it was asked to.
    pub ended_in_ms: Option<u64>,
    /// Entries that nobody can read, where it added some.
    pub malformed: u64,
    /// How often a server met it, where that can be told: late commits and fsyncs, refusals of a full disk.
    pub felt: Option<u64>,
}

/// Carries faults out.
pub struct Injector {
    house: Arc<House>,
    callers: Mutex<()>,
    begun_us: u64,
    injected: Lock<Vec<Injected>>,
    wrong: Lock<Vec<String>>,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The faults, in the order of their beginnings.
    pub injected: Vec<Injected>,
    /// What should not have happened meanwhile.
    pub wrong: Vec<String>,
}

impl Injector {
    /// For these processes.
    pub fn new(house: &Arc<House>) -> Arc<Self> {
        Arc::new(Self {
            house: Arc::clone(house),
            callers: Mutex::default(),
            begun_us: monotonic_us(),
            injected: Lock::default(),
            wrong: Lock::default(),
        })
    }

    /// Carries out all that is planned, from now on.
    ///
    /// # Errors
    /// When a fault cannot be carried out, or what it broke does not start again.
    pub async fn all(self: Arc<Self>, planned: Vec<Planned>) -> Result<Outcome, Broken> {
        let begun = Instant::now();
        let mut under_way = JoinSet::new();
        for fault in planned {
            let injector = Arc::clone(&self);
            under_way.spawn(async move {
                sleep_until(begun + fault.at).await;
                injector.one(fault).await.map_err(|error| format!("{}: {error}", fault.kind.name()))
            });
        }
        while let Some(ended) = under_way.join_next().await {
            ended??;
        }
        let take =
            |list: &Lock<Vec<Injected>>| std::mem::take(&mut *list.lock().unwrap_or_else(PoisonError::into_inner));
        let mut injected = take(&self.injected);
        injected.sort_by_key(|fault| fault.from_us);
        let wrong = std::mem::take(&mut *self.wrong.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(Outcome { injected, wrong })
    }

    /// A fault begins.
    fn begins(&self, kind: Kind, worker: Option<&str>) -> Injected {
        let from_us = monotonic_us();
        let since = (from_us - self.begun_us) as f64 / 1e6;
        println!("{since:7.1} s  {} {}", kind.name(), worker.unwrap_or_default());
        Injected {
            kind,
            worker: worker.map(str::to_owned),
            from_us,
            until_us: from_us,
            ended_in_ms: None,
            malformed: 0,
            felt: None,
        }
    }

    /// The cause of a fault is gone.
    fn ends(&self, fault: Injected) {
        let fault = Injected { until_us: monotonic_us(), ..fault };
        self.injected.lock().unwrap_or_else(PoisonError::into_inner).push(fault);
    }

    fn wrong(&self, what: String) {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    async fn one(&self, Planned { kind, place, chance, .. }: Planned) -> Result<(), Broken> {
        match place {
            Place::Worker(at) => self.worker(kind, at, chance).await,
            Place::Server(at) => self.server(kind, at, chance).await,
            Place::Redis => self.redis(kind, chance).await,
            Place::Callers => {
                let _alone = self.callers.lock().await;
                self.line(kind, None, &self.house.callers, Mode::DropReplies, between(chance, 500, 1_500)).await;
                Ok(())
            }
        }
    }

    /// Spoils a line for a while.
    async fn line(&self, kind: Kind, worker: Option<&str>, line: &Proxy, mode: Mode, length: Duration) {
        let fault = self.begins(kind, worker);
        line.set(mode);
        sleep(length).await;
        line.set(Mode::Pass);
        self.ends(fault);
    }

    async fn worker(&self, kind: Kind, at: usize, chance: u64) -> Result<(), Broken> {
        let house = &self.house;
        let mut place = house.workers[at].lock().await;
        if let Some(status) = place.process.gone()? {
            self.wrong(format!("worker {} ended by itself: {status}", place.name));
            *place = house.employ(at, Clock::Right).await?;
        }
        let name = place.name.clone();
        let worker = Some(name.as_str());
        match kind {
            Kind::WorkerKilled => {
                let fault = self.begins(kind, worker);
                place.process.kill()?;
                self.ends(fault);
                *place = house.employ(at, Clock::Right).await?;
            }
            Kind::WorkerFrozen => {
                let fault = self.begins(kind, worker);
                place.process.signal(Signal::STOP)?;
                sleep(LEASE * 2).await;
                place.process.signal(Signal::CONT)?;
                self.ends(fault);
            }
            Kind::WorkerStopped | Kind::WorkerStoppedTwice | Kind::WorkerStoppedWithoutRedis => {
                let mut fault = self.begins(kind, worker);
                let told = Instant::now();
                if kind == Kind::WorkerStoppedWithoutRedis {
                    house.to_redis[at].set(Mode::Cut);
                }
                place.process.signal(Signal::TERM)?;
                if kind == Kind::WorkerStoppedTwice {
                    sleep(between(chance, 0, 200)).await;
                    if place.process.gone()?.is_none() {
                        place.process.signal(Signal::TERM)?;
                    }
                }
                let status = place.process.ended().await;
                house.to_redis[at].set(Mode::Pass);
                let status = status?;
                fault.ended_in_ms = Some(told.elapsed().as_millis() as u64);
                self.ends(fault);
                if status.code() != Some(0) {
                    self.wrong(format!("worker {name} was told to end and ended with {status}"));
                }
                *place = house.employ(at, Clock::Right).await?;
            }
            Kind::WorkerClockOff => {
                let killed = self.begins(Kind::WorkerKilled, worker);
                place.process.kill()?;
                self.ends(killed);
                let clock = if chance.is_multiple_of(2) { Clock::Ahead } else { Clock::Behind };
                *place = house.employ(at, clock).await?;
                self.ends(self.begins(kind, Some(&place.name)));
            }
            Kind::ServerUnreachable => {
                let length = LEASE + between(chance, 1_000, 2_000);
                self.line(kind, worker, &house.to_server[at], Mode::BlackHole, length).await;
            }
            Kind::AnswersLost => {
                let length = between(chance, 200, 1_000);
                self.line(kind, worker, &house.to_server[at], Mode::DropReplies, length).await;
            }
            Kind::RedisUnreachable => {
                let length = between(chance, 2_000, 4_000);
                self.line(kind, worker, &house.to_redis[at], Mode::BlackHole, length).await;
            }
            _ => {
                let length = between(chance, 500, 2_000);
                self.line(kind, worker, &house.to_redis[at], Mode::DropReplies, length).await;
            }
        }
        Ok(())
    }

    async fn server(&self, kind: Kind, at: usize, chance: u64) -> Result<(), Broken> {
        let mut place = self.house.servers[at].lock().await;
        if let Some(status) = place.process.gone()? {
            self.wrong(format!("the server on port {} ended by itself: {status}", place.port));
            *place = self.house.serve(place.port).await?;
        }
        let mut fault = self.begins(kind, None);
        match kind {
            Kind::ServerKilled => {
                place.process.kill()?;
                sleep(between(chance, 0, 1_500)).await;
                *place = self.house.serve(place.port).await?;
            }
            Kind::FsyncSlow => {
                let slow = SlowCommits::begin(&self.house.slow_commits(place.port))?;
                sleep(between(chance, 2_000, 5_000)).await;
                fault.felt = Some(slow.end());
            }
            Kind::DiskFull => {
                let before = self.house.refused_by_full_disk(place.port)?;
                if let Some(file) = self.house.file() {
                    disk::give_back_log(&file)?;
                }
                let filling = Filling::of(self.house.store())?;
                sleep(between(chance, 1_000, 3_000)).await;
                drop(filling);
                fault.felt = Some(self.house.refused_by_full_disk(place.port)? - before);
            }
            Kind::DiskSlow => {
                let log = self.house.logs().join(format!("strace-{}.log", fault.from_us));
                let slow = SlowSync::of(place.process.id(), &log).await?;
                sleep(between(chance, 2_000, 5_000)).await;
                fault.felt = Some(slow.end().await?);
            }
            _ => {
                place.process.signal(Signal::STOP)?;
                sleep(between(chance, 500, 4_000)).await;
                place.process.signal(Signal::CONT)?;
            }
        }
        self.ends(fault);
        Ok(())
    }

    async fn redis(&self, kind: Kind, chance: u64) -> Result<(), Broken> {
        let mut redis = self.house.redis.lock().await;
        let url = self.house.redis_url();
        let mut fault = self.begins(kind, None);
        match kind {
            Kind::RedisKilled | Kind::RedisEmptied => {
                redis.kill();
                sleep(between(chance, 200, 2_000)).await;
                let empty: &[&str] = if kind == Kind::RedisEmptied { &["--appendonly", "no"] } else { &[] };
                redis.restart_with(empty).await;
            }
            Kind::RedisFrozen => {
                redis.freeze();
                sleep(LEASE * 2).await;
                redis.thaw();
            }
            Kind::Flushed => streams::flush(&url).await?,
            Kind::StreamsDeleted => streams::delete(&url).await?,
            Kind::GroupsDestroyed => streams::destroy_groups(&url).await?,
            Kind::GroupsAdvanced => streams::advance_groups(&url).await?,
            Kind::Duplicated => streams::duplicate(&url, 1 + chance % 5).await?,
            _ => fault.malformed = streams::malformed(&url).await?,
        }
        self.ends(fault);
        Ok(())
    }
}

fn between(chance: u64, least_ms: u64, most_ms: u64) -> Duration {
    Duration::from_millis(least_ms + chance % (most_ms - least_ms + 1))
}
