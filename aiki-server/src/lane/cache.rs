//! Runs that are open and were touched lately, as they are stored.

use std::collections::HashMap;

use aiki_core::RunId;

use crate::storage::StoredRun;

/// At most so many runs are kept, each of a few kilobytes.
const LIMIT: usize = 10_000;

/// Keeps what was touched lately in two generations: when the young one is full, the old one goes.
#[derive(Debug, Default)]
pub(super) struct Cache {
    young: HashMap<RunId, StoredRun>,
    old: HashMap<RunId, StoredRun>,
}

impl Cache {
    /// Takes a run out. It has to be put back, unless it was changed and the change was not stored.
    pub(super) fn take(&mut self, id: RunId) -> Option<StoredRun> {
        self.young.remove(&id).or_else(|| self.old.remove(&id))
    }

    /// Keeps a run as it is stored now. Runs that have ended are not looked at again soon.
    pub(super) fn put(&mut self, run: StoredRun) {
        if run.head.state.is_terminal() {
            return;
        }
        if self.young.len() >= LIMIT / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(run.head.id, run);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aiki_core::hash::input_hash;
    use aiki_core::name::WorkflowKey;
    use aiki_core::run::plan::{CreateRun, create};
    use aiki_core::{Name, Timestamp};

    fn run(bits: u128) -> StoredRun {
        let request = CreateRun::new(WorkflowKey::user("w", "1"), None, input_hash(None).unwrap());
        let now = Timestamp::from_millis(1);
        let head = create(&request, RunId::from_bits(bits), &Name::new("default"), now, &mut Vec::new());
        StoredRun { head, tail: String::new(), pages: 0, version: 1 }
    }

    #[test]
    fn the_cache_is_bounded_and_keeps_the_latest() {
        let mut cache = Cache::default();
        for bits in 0..3 * LIMIT as u128 {
            cache.put(run(bits));
        }
        assert!(cache.young.len() + cache.old.len() <= LIMIT);
        assert!(cache.take(RunId::from_bits(3 * LIMIT as u128 - 1)).is_some());
        assert!(cache.take(RunId::from_bits(0)).is_none());
    }
}
