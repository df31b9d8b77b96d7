//! What can be seen of a worker.

use std::panic::Location;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aiki_core::replay::Close;
use aiki_core::{Outcome, RunId, Timestamp, WorkflowKey};

/// Where a worker is in its life. It only ever moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WorkerPhase {
    /// Not started.
    Idle,
    /// Started; it has not reached its server or its subscriber yet.
    Starting,
    /// At work.
    Running,
    /// Told to stop: it takes nothing new.
    Stopping,
    /// Over.
    Stopped,
}

/// A run that a worker executes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActiveRun {
    /// The run.
    pub run: RunId,
    /// Its code.
    pub workflow: WorkflowKey,
    /// When this worker took it.
    pub since: Timestamp,
    /// How long ago that was.
    pub age: Duration,
    /// Where the handler made its last durable call, once it has been polled.
    pub last_call: Option<&'static Location<'static>>,
    /// How long the handler's present poll has lasted; `None` while it waits. Long polls block a
    /// thread of the runtime.
    pub polling_for: Option<Duration>,
    /// The handler waits for something that is not durable, and has done so for a second.
    pub foreign_wait: bool,
}

/// What a worker did since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Claims granted.
    pub claimed: u64,
    /// Runs that completed here.
    pub completed: u64,
    /// Runs that failed for good here.
    pub failed: u64,
    /// Passes that ended because the run waits on the server, its next attempt included.
    pub suspended: u64,
    /// Claims that turned out to be lost.
    pub lost: u64,
    /// Claims that were given back before their pass had ended.
    pub handed_back: u64,
}

/// A worker at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerStatus {
    /// The configured id.
    pub id: String,
    /// The unique name of this process start.
    pub name: String,
    /// Where it is in its life.
    pub phase: WorkerPhase,
    /// Whether intake is paused.
    pub paused: bool,
    /// The workflow versions it serves.
    pub workflows: Vec<WorkflowKey>,
    /// Registrations that were ignored because their name and version was there already.
    pub ignored_registrations: Vec<WorkflowKey>,
    /// The runs it executes, longest first.
    pub active: Vec<ActiveRun>,
    /// How many more it could execute.
    pub free_slots: usize,
    /// What it did in all.
    pub totals: Totals,
    /// How long ago the subscriber last answered, with or without deliveries.
    pub last_receive_age: Option<Duration>,
}

/// The running totals.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    claimed: AtomicU64,
    completed: AtomicU64,
    failed: AtomicU64,
    suspended: AtomicU64,
    lost: AtomicU64,
    handed_back: AtomicU64,
}

impl Counters {
    pub(crate) fn claimed(&self) {
        self.claimed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn handed_back(&self) {
        self.handed_back.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn ended(&self, outcome: Outcome) {
        let counter = match outcome {
            Outcome::Closed(Close::Completed) => &self.completed,
            Outcome::Closed(Close::Failed) => &self.failed,
            Outcome::Closed(Close::Suspended | Close::Retrying | Close::Continued) => &self.suspended,
            Outcome::Closed(Close::Lost) => &self.lost,
            Outcome::Interrupted => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn totals(&self) -> Totals {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Totals {
            claimed: read(&self.claimed),
            completed: read(&self.completed),
            failed: read(&self.failed),
            suspended: read(&self.suspended),
            lost: read(&self.lost),
            handed_back: read(&self.handed_back),
        }
    }
}
