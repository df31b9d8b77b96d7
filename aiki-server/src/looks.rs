//! How many events of a run a worker of the plain contract can have seen. It reads the run, finds no
//! event, and says that it waits: an event that came in between would otherwise wake nobody.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use aiki_core::RunId;

/// At most so many runs are remembered. One that was forgotten waits as in the contract.
const LIMIT: usize = 10_000;

#[derive(Debug, Default)]
pub(crate) struct Looks(Mutex<HashMap<RunId, u32>>);

impl Looks {
    /// Somebody was shown so many events of a run.
    pub(crate) fn note(&self, run: RunId, events: u32) {
        let mut looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if looks.len() >= LIMIT && !looks.contains_key(&run) {
            looks.clear();
        }
        looks.insert(run, events);
    }

    /// What was noted last.
    pub(crate) fn take(&self, run: RunId) -> Option<u32> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&run)
    }
}
