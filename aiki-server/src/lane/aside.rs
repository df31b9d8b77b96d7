//! Runs whose rows cannot be read. They are left aside, so that they stop nobody else.

use std::collections::HashSet;

use aiki_core::RunId;

use crate::storage::StorageError;

/// At most so many are remembered. Lists of due and ready runs are asked for so many more rows.
const LIMIT: usize = 1_000;

/// What was found unreadable since the server started. A restart looks at the rows again.
#[derive(Debug, Default)]
pub(super) struct Aside {
    runs: HashSet<RunId>,
}

impl Aside {
    /// Leaves a run aside and says so, once.
    pub(super) fn put(&mut self, run: RunId, damage: &StorageError) {
        if self.runs.contains(&run) {
            return;
        }
        if self.runs.len() < LIMIT {
            self.runs.insert(run);
        }
        tracing::error!(%run, error = %damage, "a run cannot be read: it is left aside until the server starts again");
    }

    pub(super) fn has(&self, run: &RunId) -> bool {
        self.runs.contains(run)
    }

    pub(super) fn count(&self) -> usize {
        self.runs.len()
    }
}
