//! A process of the simulated world: a runtime of its own, whose time only passes when it is given some.
//!
//! Killing it drops the runtime with all that lives in it, between two polls. Standing still is not being
//! given time; when it goes on, all of its timers that are overdue by then ring at once.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aiki_core::Name;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;
use tokio::time::{Instant, advance, sleep_until};

/// A process is to be killed at one of its next calls to the server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ambush {
    /// Calls that it still makes.
    pub(crate) calls: u64,
    /// Whether the server does what the last one asks for.
    pub(crate) applied: bool,
}

/// What the parts of a process share.
#[derive(Debug)]
pub(crate) struct Process {
    /// The name of its worker.
    name: Mutex<Name>,
    dead: AtomicBool,
    bell: Notify,
    pub(crate) ambush: Mutex<Option<Ambush>>,
    /// It is killed after the next effect of a task.
    pub(crate) killed_after_effect: AtomicBool,
}

impl Process {
    pub(crate) fn new(name: &str) -> Arc<Self> {
        Arc::new(Self {
            name: Mutex::new(Name::from(name.to_owned())),
            dead: AtomicBool::new(false),
            bell: Notify::new(),
            ambush: Mutex::new(None),
            killed_after_effect: AtomicBool::new(false),
        })
    }

    pub(crate) fn name(&self) -> Name {
        self.name.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn rename(&self, name: &str) {
        *self.name.lock().unwrap_or_else(PoisonError::into_inner) = Name::from(name.to_owned());
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// It ends here: nothing of it reaches the world any more.
    pub(crate) fn die(&self) {
        self.dead.store(true, Ordering::SeqCst);
        self.bell.notify_one();
    }

    /// Ends the process at this point of its code.
    pub(crate) async fn die_here(&self) {
        self.die();
        std::future::pending().await
    }

    /// Whoever is dead goes no further.
    pub(crate) async fn alive(&self) {
        if self.is_dead() {
            std::future::pending::<()>().await;
        }
    }
}

/// A process with its runtime.
pub(crate) struct Node {
    pub(crate) process: Arc<Process>,
    runtime: Option<Runtime>,
    /// When the world began; later than any real time that a simulation takes.
    epoch: Instant,
    /// How far its own time has come.
    pub(crate) reached: u64,
    /// It stands still until then.
    pub(crate) frozen_until: u64,
}

impl Node {
    /// Begins a process at the time `now` of the world.
    pub(crate) fn start(process: Arc<Process>, epoch: Instant, now: u64) -> std::io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build()?;
        runtime.block_on(async {
            advance((epoch + Duration::from_millis(now)).duration_since(Instant::now())).await;
        });
        Ok(Self { process, runtime: Some(runtime), epoch, reached: now, frozen_until: 0 })
    }

    /// Runs something in the process, in no time.
    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        self.runtime.as_ref().map(|runtime| runtime.block_on(future))
    }

    /// Begins something in the background of the process.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.runtime {
            runtime.spawn(future);
        }
    }

    /// Gives the process time up to `until`, unless it stands still. Whether it lives.
    pub(crate) fn step(&mut self, until: u64) -> bool {
        let Some(runtime) = &self.runtime else { return false };
        if until < self.frozen_until {
            return true;
        }
        let (process, from) = (Arc::clone(&self.process), self.epoch);
        let stood_still = std::mem::take(&mut self.frozen_until) > 0;
        runtime.block_on(async {
            let target = from + Duration::from_millis(until);
            if stood_still {
                advance(target.saturating_duration_since(Instant::now())).await;
            }
            tokio::select! {
                biased;
                () = process.bell.notified() => {}
                () = sleep_until(target) => {}
            }
        });
        self.reached = until;
        if self.process.is_dead() {
            self.kill();
        }
        self.runtime.is_some()
    }

    /// Ends the process where it stands.
    pub(crate) fn kill(&mut self) {
        self.process.die();
        drop(self.runtime.take());
    }

    /// Tasks of the runtime that have not ended.
    pub(crate) fn tasks(&self) -> u64 {
        self.runtime.as_ref().map_or(0, |runtime| runtime.metrics().num_alive_tasks() as u64)
    }
}
