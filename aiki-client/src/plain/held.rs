//! The claims of this client. The contract's server knows of no epochs: the revision is the fence.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aiki_core::id::TransitionId;
use aiki_core::{Name, ReportReceipt, RunId, TaskId};

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
    /// The run's latest transition at this revision, once it was looked for.
    pub(super) transition: Option<TransitionId>,
    /// The server's ids of the tasks, by our ordinal.
    pub(super) tasks: Vec<TaskId>,
    pub(super) children: Vec<RunId>,
    /// The run's pool, which its children belong to unless they name one.
    pub(super) pool: Option<Name>,
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

/// So many last reports are known again.
const KEPT: usize = 256;

/// All claims, at most as many as the client's workers hold.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    all: Mutex<All>,
}

#[derive(Debug, Default)]
struct All {
    held: HashMap<RunId, Held>,
    /// Claims that somebody works on, by their epochs.
    taken: HashMap<RunId, u64>,
    /// The last reports under claims that have ended, the latest [`KEPT`] of them.
    ended: VecDeque<(RunId, u64, u64, ReportReceipt)>,
}

/// How a claim stands, as far as this client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Held at this revision, since this transition.
    Held {
        revision: u64,
        transition: Option<TransitionId>,
    },
    /// Something is being written under it: the revision tells afterwards.
    Writing,
    Gone,
}

/// A claim is being worked on until this is dropped.
pub(super) struct Taken<'a> {
    claims: &'a Claims,
    run: RunId,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.claims.all().taken.remove(&self.run);
    }
}

impl Claims {
    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing is held.
    pub(crate) fn is_empty(&self) -> bool {
        let all = self.all();
        all.held.is_empty() && all.taken.is_empty()
    }

    pub(super) fn put(&self, run: RunId, held: Held) {
        self.all().held.insert(run, held);
    }

    /// Takes a claim out to work on it: whoever is dropped meanwhile leaves it lost.
    pub(super) fn take(&self, run: RunId, epoch: u64) -> Option<(Held, Taken<'_>)> {
        let mut all = self.all();
        let fits = all.held.get(&run).is_some_and(|held| held.epoch == epoch);
        let held = fits.then(|| all.held.remove(&run)).flatten()?;
        all.taken.insert(run, epoch);
        Some((held, Taken { claims: self, run }))
    }

    pub(super) fn standing(&self, run: RunId, epoch: u64) -> Standing {
        let all = self.all();
        match (all.held.get(&run), all.taken.get(&run)) {
            (Some(Held { epoch: of, revision, transition, .. }), _) if *of == epoch => {
                Standing::Held { revision: *revision, transition: *transition }
            }
            (_, Some(of)) if *of == epoch => Standing::Writing,
            _ => Standing::Gone,
        }
    }

    /// Keeps the answer to the report that ended a claim.
    pub(super) fn end(&self, run: RunId, epoch: u64, seq: u64, receipt: ReportReceipt) {
        let mut all = self.all();
        if all.ended.len() >= KEPT {
            all.ended.pop_front();
        }
        all.ended.push_back((run, epoch, seq, receipt));
    }

    /// The answer to a report that ended a claim.
    pub(super) fn ended(&self, run: RunId, epoch: u64, seq: u64) -> Option<ReportReceipt> {
        let all = self.all();
        let known = all.ended.iter().find(|known| (known.0, known.1, known.2) == (run, epoch, seq));
        known.map(|known| known.3.clone())
    }

    /// Whether something is being written under a claim of the run.
    pub(super) fn is_taken(&self, run: RunId) -> bool {
        self.all().taken.contains_key(&run)
    }

    /// Notes the latest transition of a run at a revision.
    pub(super) fn note(&self, run: RunId, revision: u64, transition: TransitionId) {
        if let Some(held) = self.all().held.get_mut(&run).filter(|held| held.revision == revision) {
            held.transition = Some(transition);
        }
    }

    /// What the worker knows of a run's signals.
    pub(super) fn known(&self, run: RunId) -> Option<(usize, BTreeSet<u32>, Vec<RunId>)> {
        self.all().held.get(&run).map(|held| (held.events, held.ended.clone(), held.children.clone()))
    }

    pub(super) fn learn(&self, run: RunId, events: usize, ended: BTreeSet<u32>) {
        if let Some(held) = self.all().held.get_mut(&run) {
            (held.events, held.ended) = (held.events.max(events), ended);
        }
    }
}
