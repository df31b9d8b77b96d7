//! The claims of this client. The contract's server knows of no epochs: the revision is the fence.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aiki_core::{ReportReceipt, RunId, TaskId};

/// A step that was opened under this claim and waits.
#[derive(Clone, Debug)]
pub(super) enum Waiting {
    Sleep { ordinal: u32, name: String, duration: Duration },
    Event { ordinal: u32, name: String, timeout: Option<Duration> },
    Child { ordinal: u32, run: Option<RunId>, timeout: Option<Duration> },
}

/// One claim.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) epoch: u64,
    pub(super) revision: u64,
    /// The server's ids of the tasks, by our ordinal.
    pub(super) tasks: Vec<TaskId>,
    pub(super) children: Vec<RunId>,
    /// Events that the worker knows of, and children whose end it knows.
    pub(super) events: usize,
    pub(super) ended: BTreeSet<u32>,
    pub(super) waiting: Vec<Waiting>,
    /// A task waits for its next attempt: the server brings the run back.
    pub(super) parked: bool,
    /// The report under way: its number, and how much of it is written.
    pub(super) writing: (u64, usize),
    /// Children that it started.
    pub(super) started: Vec<Option<RunId>>,
    pub(super) last: Option<(u64, ReportReceipt)>,
}

impl Held {
    pub(super) fn signals(&self) -> u32 {
        (self.events + self.ended.len()) as u32
    }
}

/// All claims, at most as many as the client's workers hold.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    held: Mutex<HashMap<RunId, Held>>,
}

impl Claims {
    fn held(&self) -> MutexGuard<'_, HashMap<RunId, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing is held.
    pub(crate) fn is_empty(&self) -> bool {
        self.held().is_empty()
    }

    pub(super) fn put(&self, run: RunId, held: Held) {
        self.held().insert(run, held);
    }

    /// Takes a claim out to work on it: whoever is dropped meanwhile leaves it lost.
    pub(super) fn take(&self, run: RunId, epoch: u64) -> Option<Held> {
        let mut all = self.held();
        let fits = all.get(&run).is_some_and(|held| held.epoch == epoch);
        fits.then(|| all.remove(&run)).flatten()
    }

    pub(super) fn has(&self, run: RunId, epoch: u64) -> bool {
        self.held().get(&run).is_some_and(|held| held.epoch == epoch)
    }

    /// What the worker knows of a run's signals.
    pub(super) fn known(&self, run: RunId) -> Option<(usize, BTreeSet<u32>, Vec<RunId>)> {
        self.held().get(&run).map(|held| (held.events, held.ended.clone(), held.children.clone()))
    }

    pub(super) fn learn(&self, run: RunId, events: usize, ended: BTreeSet<u32>) {
        if let Some(held) = self.held().get_mut(&run) {
            (held.events, held.ended) = (held.events.max(events), ended);
        }
    }
}
