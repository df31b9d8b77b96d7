//! What is known of workers: who was heard of lately, and what each holds. Kept in memory only.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aiki_core::server_client::WorkerInfo;
use aiki_core::{Name, RunId, Timestamp};

use crate::effects::LeaseChange;

/// A worker that holds nothing is forgotten after this time.
const FORGET_AFTER: Duration = Duration::from_secs(300);
/// At most so many workers are remembered.
const LIMIT: usize = 10_000;

type Key = (Name, Name);

#[derive(Debug, Default)]
struct Worker {
    last_seen: Timestamp,
    holds: HashMap<RunId, Timestamp>,
}

/// The workers of all namespaces.
#[derive(Debug, Default)]
pub(crate) struct Workers {
    known: Mutex<HashMap<Key, Worker>>,
}

impl Workers {
    fn known(&self) -> MutexGuard<'_, HashMap<Key, Worker>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker was heard of.
    pub(crate) fn seen(&self, namespace: &Name, worker: &Name, now: Timestamp) {
        see(&mut self.known(), (namespace.clone(), worker.clone()), now);
    }

    /// Claims were granted, used or ended.
    pub(crate) fn leases_changed(&self, now: Timestamp, changes: Vec<LeaseChange>) {
        if changes.is_empty() {
            return;
        }
        let mut known = self.known();
        for LeaseChange { namespace, run, before, after } in changes {
            let owner = after.as_ref().map(|(owner, _)| owner);
            if let Some(before) = before
                && owner != Some(&before)
                && let Some(worker) = known.get_mut(&(namespace.clone(), before))
            {
                worker.holds.remove(&run);
            }
            if let Some((owner, since)) = after
                && let Some(worker) = see(&mut known, (namespace, owner), now)
            {
                worker.holds.insert(run, since);
            }
        }
    }

    /// The workers of a namespace, by name.
    pub(crate) fn list(&self, namespace: &Name, now: Timestamp) -> Vec<WorkerInfo> {
        let mut known = self.known();
        forget(&mut known, now);
        let own = known.iter().filter(|((of, _), _)| of == namespace);
        let mut list: Vec<WorkerInfo> = own
            .map(|((_, name), worker)| {
                let mut holds: Vec<_> = worker.holds.iter().map(|(run, since)| (*run, *since)).collect();
                holds.sort_unstable();
                WorkerInfo { name: name.clone(), last_seen: worker.last_seen, holds }
            })
            .collect();
        list.sort_by(|a, b| a.name.cmp(&b.name));
        list
    }
}

fn forget(known: &mut HashMap<Key, Worker>, now: Timestamp) {
    known.retain(|_, worker| !worker.holds.is_empty() || now.since(worker.last_seen) < FORGET_AFTER);
}

/// Notes that a worker was heard of; `None` when there are too many to remember it.
fn see(known: &mut HashMap<Key, Worker>, key: Key, now: Timestamp) -> Option<&mut Worker> {
    if known.len() >= LIMIT && !known.contains_key(&key) {
        forget(known, now);
        if known.len() >= LIMIT {
            return None;
        }
    }
    let worker = known.entry(key).or_default();
    worker.last_seen = worker.last_seen.max(now);
    Some(worker)
}
