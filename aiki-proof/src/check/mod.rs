//! Judges a history by the invariants of `docs/reliability.md`.
//!
//! | id | judged from |
//! |---|---|
//! | I1 | ids that callers were answered are shown by the server |
//! | I2 | no run is left queued, running or overdue |
//! | I3 | bodies that began after an accepted report had ended their task |
//! | I4 | accepted reports that end a task, and the list of transitions |
//! | I5 | accepted reports under an epoch below the highest that was granted |
//! | I6 | the order of the epochs of accepted reports |
//! | I7 | answers to creates of one key |
//! | I8 | the list of transitions folded, against the record |
//! | I9 | the store's view ([`Views::announcements`]) |
//! | I10 | acknowledgements against what the server had told that worker since the delivery |
//! | I11 | attempts that were repeated without a fault or an intervention between them |
//! | I12 | claims in a row without an accepted report |
//! | I13 | accepted reports and transitions behind a cancellation |
//! | I14 | times in the list of transitions against the times that were waited for |
//! | I15 | the campaign's own gauges ([`Views::gauges`]) |
//! | I16 | bodies and deliveries of a worker whose `stop()` had returned |
//! | I17 | what handlers were given at one place in all of their passes, and runs that failed as diverged |

mod claims;
mod delivery;
mod runs;
mod tasks;

use std::fmt;
use std::time::Duration;

use aiki_core::RunId;

use crate::end::{End, Views};
use crate::history::Happened;

/// An invariant, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Invariant(pub u8);

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "I{}", self.0)
    }
}

/// An invariant that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// By which run, if it was one.
    pub run: Option<RunId>,
    /// How.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.run {
            Some(run) => write!(f, "{} run {run}: {}", self.invariant, self.text),
            None => write!(f, "{}: {}", self.invariant, self.text),
        }
    }
}

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// A run that is due goes on within this time while nothing is wrong.
    pub late: Duration,
    /// What a worker waits for by itself may seem to go on so much too early: its wait began when it decided,
    /// and is dated from when the server heard of it.
    pub early: Duration,
    /// The lease of a claim. A worker counts it from when it asked for the claim, so a fault up to a lease
    /// before the grant may cost the claim as well.
    pub lease: Duration,
}

/// What is judged.
pub(crate) struct Case<'a> {
    history: &'a [Happened],
    end: &'a End,
    views: &'a dyn Views,
    bounds: Bounds,
    found: Vec<Violation>,
}

impl Case<'_> {
    fn broken(&mut self, invariant: u8, run: impl Into<Option<RunId>>, text: String) {
        self.found.push(Violation { invariant: Invariant(invariant), run: run.into(), text });
    }
}

/// All that is wrong with a history. The end has to be seen when all faults are over and everything
/// had time to come to rest.
pub fn judge(history: &[Happened], end: &End, views: &dyn Views, bounds: Bounds) -> Vec<Violation> {
    let mut case = Case { history, end, views, bounds, found: Vec::new() };
    case.runs();
    case.tasks();
    case.claims();
    case.delivery();
    case.found
}
