//! Faults, carried out.

use std::os::unix::process::ExitStatusExt;
use std::sync::{Arc, Mutex as Lock, PoisonError};
use std::time::Duration;

use aiki_core::run::RunStatus;
use aiki_core::run::plan::POISON_LIMIT;
use rustix::process::Signal;
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::clock::Clock;
use super::disk::{self, Filling, SlowSync};
use super::doom::Orders;
use super::fail_point::SlowCommits;
use super::foreign;
use super::house::{Broken, House, WorkerPlace};
use super::notes::monotonic_us;
use super::plan::{Kind, Place, Planned};
use super::profile::LEASE;
use super::{rest, streams};
use crate::redis::{Mode, Proxy};

/// How long a worker may take to begin a handler that takes it down. Without one there is no fault.
const DOOM: Duration = Duration::from_secs(10);
/// How long a poisoned run may take to be parked.
const PARKED: Duration = Duration::from_secs(90);
/// What a server tells whose disk is full.
const FULL: &str = "the disk is full";
/// What it tells whose database is locked by somebody else. Requests wait for the lock for a while before they are refused.
const LOCKED: &str = "the store did not answer within";
/// FLUSHALLs of a storm, and between two of them.
const STORM: (u32, Duration) = (20, Duration::from_secs(3));
/// How long a database is away, or locked.
const AWAY: Duration = Duration::from_secs(10);

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
    /// How often it was met, where that can be told: late commits and fsyncs, what a server told of a full or locked disk,
    /// workers that a poisoned run took down.
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
            Place::Database => self.database(kind).await,
            Place::Everybody => self.everybody(kind, chance).await,
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
            Kind::WorkerAborted | Kind::WorkerOverflowed | Kind::WorkerOutOfMemory => {
                self.doom(kind, at, &mut place).await?;
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

    /// A handler takes this worker down, if there is one in good time.
    async fn doom(&self, kind: Kind, at: usize, place: &mut WorkerPlace) -> Result<(), Broken> {
        let orders = Orders::new(&self.house.orders(), &place.name);
        let mut fault = self.begins(kind, Some(&place.name));
        orders.give(kind)?;
        let begun = Instant::now();
        while place.process.gone()?.is_none() {
            if begun.elapsed() > DOOM && orders.withdraw()? {
                println!("          {}: no handler began", place.name);
                return Ok(());
            }
            sleep(Duration::from_millis(10)).await;
        }
        let status = place.process.ended().await?;
        // From when it died, not from when it was ordered to.
        fault.from_us = monotonic_us();
        self.ends(fault);
        let by = if kind == Kind::WorkerOutOfMemory { Signal::KILL } else { Signal::ABORT };
        if status.signal() != Some(by.as_raw()) {
            self.wrong(format!("worker {} should have ended by {by:?} and ended with {status}", place.name));
        }
        *place = self.house.employ(at, Clock::Right).await?;
        Ok(())
    }

    async fn database(&self, kind: Kind) -> Result<(), Broken> {
        // None is to be started while there is no database.
        let mut servers = Vec::new();
        for server in &self.house.servers {
            servers.push(server.lock().await);
        }
        let postgres = self.house.postgres.as_ref().ok_or("there is no Postgres of the campaign's own")?;
        let mut postgres = postgres.lock().await;
        let fault = self.begins(kind, None);
        postgres.crash();
        sleep(AWAY).await;
        postgres.restart().await;
        self.ends(fault);
        Ok(())
    }

    async fn everybody(&self, kind: Kind, chance: u64) -> Result<(), Broken> {
        let house = &self.house;
        let mut workers = Vec::new();
        for worker in &house.workers {
            workers.push(worker.lock().await);
        }
        let _alone = self.callers.lock().await;
        if kind == Kind::LineSlow {
            let fault = self.begins(kind, None);
            let lines = || house.to_server.iter().chain(&house.to_redis).chain([&house.callers]);
            lines().for_each(|line| line.set(Mode::Slow));
            sleep(between(chance, 10_000, 20_000)).await;
            lines().for_each(|line| line.set(Mode::Pass));
            self.ends(fault);
            return Ok(());
        }
        let (client, notes) = (house.client().await?, house.own_notes_of("poison")?);
        let mut fault = self.begins(kind, None);
        Orders::poison(&house.orders())?;
        let (begun, mut deaths) = (Instant::now(), 0);
        let parked = loop {
            for (at, place) in workers.iter_mut().enumerate() {
                if place.process.gone()?.is_some() {
                    self.ends(self.begins(Kind::WorkerAborted, Some(&place.name)));
                    deaths += 1;
                    **place = house.employ(at, Clock::Right).await?;
                }
            }
            let run = Orders::poisoned(&house.orders());
            if let Some(run) = run
                && client.server().get_run(run).await.is_ok_and(|run| run.state.status() == RunStatus::Stalled)
            {
                break true;
            }
            if begun.elapsed() > if run.is_some() { PARKED } else { DOOM } {
                break false;
            }
            sleep(Duration::from_millis(20)).await;
        };
        let run = Orders::end_poison(&house.orders())?;
        fault.felt = Some(deaths);
        match run {
            None => println!("          no run began"),
            Some(_) => self.ends(fault),
        }
        if let Some(run) = run.filter(|_| !parked || deaths != u64::from(POISON_LIMIT)) {
            self.wrong(format!(
                "run {run} took {deaths} workers down, and is parked: {parked}; that should be {POISON_LIMIT}"
            ));
        }
        // Here, and not in the end: callers may wait for it, and for those that were unlucky beside it.
        rest::send_back(&client, &notes).await
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
                let before = self.house.told(place.port, FULL)?;
                if let Some(file) = self.house.file() {
                    disk::give_back_log(&file)?;
                }
                let filling = Filling::of(self.house.store())?;
                sleep(between(chance, 1_000, 3_000)).await;
                drop(filling);
                fault.felt = Some(self.house.told(place.port, FULL)? - before);
            }
            Kind::DatabaseLocked => {
                let before = self.house.told(place.port, LOCKED)?;
                let locker = foreign::locker(&self.house, fault.from_us).await?;
                // From when it has the lock.
                fault.from_us = monotonic_us();
                sleep(AWAY).await;
                drop(locker);
                fault.felt = Some(self.house.told(place.port, LOCKED)? - before);
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
            Kind::FlushStorm => {
                for _ in 0..STORM.0 {
                    streams::flush(&url).await?;
                    sleep(STORM.1).await;
                }
            }
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
