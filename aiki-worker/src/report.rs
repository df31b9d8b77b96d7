//! What a worker says when it has stopped.

use std::fmt;

use aiki_core::RunId;

use crate::status::Totals;

/// How a worker ended. [`start`](crate::Worker::start) and [`stop`](crate::Worker::stop) both
/// resolve with the same report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StopReport {
    /// The worker's unique name.
    pub worker: String,
    /// Runs whose pass ended by itself while the worker was stopping.
    pub finished: usize,
    /// Runs that were cut short and given back: they are ready for other workers at once.
    pub handed_back: Vec<RunId>,
    /// Runs whose handler did not yield when told to stop. Its code may still be running in this
    /// process; what it does is not recorded. The run itself was given back as well.
    pub abandoned: Vec<RunId>,
    /// Runs whose claim was gone already when they were given back: somebody else has them.
    pub lost: Vec<RunId>,
    /// Runs that could not be given back, or whose claim was never answered, because the server could
    /// not be reached: they go to other workers when their leases lapse.
    pub unconfirmed: Vec<RunId>,
    /// What the worker did in all.
    pub totals: Totals,
}

impl StopReport {
    /// Whether nothing was cut short.
    pub fn is_clean(&self) -> bool {
        self.handed_back.is_empty() && self.abandoned.is_empty() && self.lost.is_empty() && self.unconfirmed.is_empty()
    }
}

impl fmt::Display for StopReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} stopped: {} runs completed in {} claims, {} finished while stopping",
            self.worker, self.totals.completed, self.totals.claimed, self.finished
        )?;
        list(f, "handed back", &self.handed_back)?;
        list(f, "abandoned (the handler does not yield)", &self.abandoned)?;
        list(f, "lost", &self.lost)?;
        list(f, "left to their leases", &self.unconfirmed)
    }
}

/// Writes a count and the first few ids.
fn list(f: &mut fmt::Formatter<'_>, what: &str, runs: &[RunId]) -> fmt::Result {
    const SHOWN: usize = 3;
    if runs.is_empty() {
        return Ok(());
    }
    write!(f, ", {} {what} (", runs.len())?;
    for (at, run) in runs.iter().take(SHOWN).enumerate() {
        write!(f, "{}{run}", if at == 0 { "" } else { ", " })?;
    }
    f.write_str(if runs.len() > SHOWN { ", …)" } else { ")" })
}
