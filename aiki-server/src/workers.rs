//! What is known of workers: who was heard of lately, and what each holds. Kept in memory only.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aiki_core::run::RunHead;
use aiki_core::server_client::{WorkerInfo, WorkerServes};
use aiki_core::{Name, RunId, Timestamp};
use tokio::sync::Notify;

use crate::effects::LeaseChange;

/// A worker that holds nothing is forgotten after this time.
const FORGET_AFTER: Duration = Duration::from_secs(300);
/// What a worker says that it serves is believed for this time.
const SERVES_FOR: Duration = Duration::from_secs(90);
/// At most so many workers are remembered.
const LIMIT: usize = 10_000;

type Key = (Name, Name);

#[derive(Debug, Default)]
struct Worker {
    last_seen: Timestamp,
    holds: HashMap<RunId, Timestamp>,
    serves: Option<(WorkerServes, Timestamp)>,
    news: Option<Arc<News>>,
    /// Its last question for ready runs, by the number that it gave it, and what it was answered.
    #[cfg(feature = "http")]
    asked: Option<(u64, Vec<RunId>)>,
}

/// Runs of a worker to which something has happened that it did not do itself. At most as many as it
/// has held since it last asked.
#[derive(Debug, Default)]
pub(crate) struct News {
    runs: Mutex<BTreeSet<RunId>>,
    came: Notify,
}

impl News {
    fn runs(&self) -> MutexGuard<'_, BTreeSet<RunId>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for news and takes them. Cancel-safe.
    pub(crate) async fn wait(&self) -> Vec<RunId> {
        loop {
            let came = self.came.notified();
            let runs = std::mem::take(&mut *self.runs());
            if !runs.is_empty() {
                return runs.into_iter().collect();
            }
            came.await;
        }
    }
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

    /// A worker says what it serves.
    pub(crate) fn announce(&self, namespace: &Name, worker: &Name, serves: WorkerServes, now: Timestamp) {
        if let Some(worker) = see(&mut self.known(), (namespace.clone(), worker.clone()), now) {
            worker.serves = Some((serves, now));
            // From now on news are kept for it: it may look at its runs before it asks.
            worker.news.get_or_insert_with(Arc::default);
        }
    }

    /// Whether a worker that was heard of lately serves the run.
    pub(crate) fn serves(&self, head: &RunHead, now: Timestamp) -> bool {
        self.known().iter().any(|((namespace, _), worker)| {
            let fits = |(serves, said_at): &(WorkerServes, Timestamp)| {
                let pool = head.pool().map_or(serves.pools.is_empty(), |pool| serves.pools.contains(pool));
                pool && now.since(*said_at) < SERVES_FOR && serves.workflows.contains(&head.workflow)
            };
            *namespace == head.namespace && worker.serves.as_ref().is_some_and(fits)
        })
    }

    /// Where a worker is told what happens to its runs; `None` when there are too many workers.
    pub(crate) fn news(&self, namespace: &Name, worker: &Name, now: Timestamp) -> Option<Arc<News>> {
        let mut known = self.known();
        let worker = see(&mut known, (namespace.clone(), worker.clone()), now)?;
        Some(worker.news.get_or_insert_with(Arc::default).clone())
    }

    /// What a worker was given when it asked under this number: its answer was lost.
    #[cfg(feature = "http")]
    pub(crate) fn given(&self, namespace: &Name, worker: &Name, question: u64) -> Option<Vec<RunId>> {
        let known = self.known();
        let asked = known.get(&(namespace.clone(), worker.clone()))?.asked.as_ref()?;
        (asked.0 == question).then(|| asked.1.clone())
    }

    /// Notes what a worker is given.
    #[cfg(feature = "http")]
    pub(crate) fn give(&self, namespace: &Name, worker: &Name, question: u64, runs: Vec<RunId>, now: Timestamp) {
        if let Some(worker) = see(&mut self.known(), (namespace.clone(), worker.clone()), now) {
            worker.asked = Some((question, runs));
        }
    }

    /// Something happened to a run that a worker holds.
    pub(crate) fn tell(&self, namespace: &Name, worker: &Name, run: RunId) {
        let news = match self.known().get(&(namespace.clone(), worker.clone())) {
            Some(Worker { news: Some(news), .. }) => news.clone(),
            _ => return,
        };
        news.runs().insert(run);
        news.came.notify_one();
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
                let serves = worker.serves.as_ref().map(|(serves, _)| serves.clone());
                WorkerInfo { name: name.clone(), last_seen: worker.last_seen, holds, serves }
            })
            .collect();
        list.sort_by(|a, b| a.name.cmp(&b.name));
        list
    }
}

fn forget(known: &mut HashMap<Key, Worker>, now: Timestamp) {
    known.retain(|_, worker| {
        // Somebody may wait for its news.
        let waits = worker.news.as_ref().is_some_and(|news| Arc::strong_count(news) > 1);
        waits || !worker.holds.is_empty() || now.since(worker.last_seen) < FORGET_AFTER
    });
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
