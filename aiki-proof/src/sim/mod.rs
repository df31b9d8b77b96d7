//! The deterministic simulation: a server, workers, a transport and callers in one thread, in virtual time.
//!
//! Every process has a runtime of its own and is given time in turns, in an order and for lengths that the
//! seed decides. So a process can be killed between any two polls, and can stand still while the others go
//! on. The parts are the real ones (worker, server, memory or SQLite store, memory queue); what is simulated is the
//! time between them, the lines between them, and what goes wrong.

mod actions;
mod bug;
mod chance;
mod house;
mod kept;
mod line;
mod process;
mod program;
mod transport;
mod ways;
mod world;

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, Instant};

pub use bug::Bug;
pub use kept::Store;
pub use ways::WAYS;

use crate::check::Violation;
use crate::end::End;
use crate::history::{Fault, Happened, What};

/// What is simulated.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Turns with faults; afterwards everything may come to rest.
    pub steps: u32,
    /// Workers.
    pub workers: usize,
    /// Where the server keeps its runs.
    pub store: Store,
    /// A bug that is to be found.
    pub bug: Option<Bug>,
}

impl Default for Options {
    fn default() -> Self {
        Self { steps: 300, workers: 3, store: Store::Memory, bug: None }
    }
}

/// What a simulation has come to.
#[derive(Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// What was wrong.
    pub violations: Vec<Violation>,
    /// What happened.
    pub history: Vec<Happened>,
    /// What the server shows in the end.
    pub end: End,
    /// The ways to recover that were taken.
    pub ways: BTreeSet<&'static str>,
    /// How long it took by the world's clock.
    pub simulated: Duration,
    /// How long it took in truth.
    pub took: Duration,
}

impl Outcome {
    /// The kinds of faults that were injected.
    pub fn faults(&self) -> BTreeSet<Fault> {
        let faults = self.history.iter().filter_map(|happened| match &happened.what {
            What::Fault { fault, .. } => Some(*fault),
            _ => None,
        });
        faults.collect()
    }

    /// What the server shows of the runs that broke an invariant.
    pub fn broken(&self) -> String {
        let runs: BTreeSet<_> = self.violations.iter().filter_map(|violation| violation.run).collect();
        runs.iter().filter_map(|run| self.end.runs.get(run)).map(|shown| format!("{shown:#?}\n")).collect()
    }

    /// The history, one line for each thing that happened.
    pub fn trace(&self) -> String {
        self.history.iter().map(|happened| format!("{:>9} {:?}\n", happened.at, happened.what)).collect()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seed, runs, happened) = (self.seed, self.end.runs.len(), self.history.len());
        writeln!(f, "seed {seed}: {runs} runs, {happened} things in {:?} simulated", self.simulated)?;
        self.violations.iter().try_for_each(|violation| writeln!(f, "  {violation}"))
    }
}

/// Simulates the world of this seed. The same seed and options give the same history.
///
/// # Errors
/// When the operating system refuses a runtime, or the simulation itself is broken.
pub fn simulate(seed: u64, options: Options) -> Result<Outcome, String> {
    quiet_planned_panics();
    let began = Instant::now();
    let mut house = house::House::build(seed, options)?;
    for _ in 0..options.steps {
        house.act()?;
        house.turn()?;
    }
    house.settle()?;
    let outcome = house.judge(began)?;
    Ok(outcome)
}

/// Panics that the programs plan are no news.
fn quiet_planned_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if info.payload().downcast_ref::<&str>().is_none_or(|text| *text != "a planned panic") {
                usual(info);
            }
        }));
    });
}
