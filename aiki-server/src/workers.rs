//! What is known of workers: who was heard of lately, and what each holds. Kept in memory; servers that share a store
//! tell each other, and look up in it what is held.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aiki_core::run::RunHead;
use aiki_core::server_client::{WorkerInfo, WorkerServes};
use aiki_core::{Name, RunId, Timestamp};
use tokio::sync::Notify;

use crate::effects::LeaseChange;
use crate::notice::WorkerMark;
use crate::storage::Holder;

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
    /// Heard of since other servers were told.
    untold: bool,
}

/// A worker as servers tell each other.
#[derive(Clone, Debug)]
pub(crate) struct KnownWorker {
    pub(crate) namespace: Name,
    pub(crate) name: Name,
    pub(crate) last_seen: Timestamp,
    pub(crate) serves: Option<(WorkerServes, Timestamp)>,
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
    /// What was last heard from the servers that share the store; `None`: nobody shares it.
    elsewhere: Option<Mutex<Vec<KnownWorker>>>,
}

/// Whether a run is among what a worker said at some time that it serves.
fn fits(serves: Option<&(WorkerServes, Timestamp)>, head: &RunHead, now: Timestamp) -> bool {
    serves.is_some_and(|(serves, said_at)| {
        let pool = head.pool().map_or(serves.pools.is_empty(), |pool| serves.pools.contains(pool));
        pool && now.since(*said_at) < SERVES_FOR && serves.workflows.contains(&head.workflow)
    })
}

impl Workers {
    /// For a store that others use as well.
    pub(crate) fn shared() -> Self {
        Self { known: Mutex::default(), elsewhere: Some(Mutex::default()) }
    }

    /// Whether what is held has to be looked up in the store.
    pub(crate) fn is_shared(&self) -> bool {
        self.elsewhere.is_some()
    }

    fn elsewhere(&self) -> Option<MutexGuard<'_, Vec<KnownWorker>>> {
        self.elsewhere.as_ref().map(|elsewhere| elsewhere.lock().unwrap_or_else(PoisonError::into_inner))
    }

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
                && !self.is_shared()
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
        let here = self
            .known()
            .iter()
            .any(|((namespace, _), worker)| *namespace == head.namespace && fits(worker.serves.as_ref(), head, now));
        here || self.elsewhere().is_some_and(|elsewhere| {
            elsewhere.iter().any(|worker| worker.namespace == head.namespace && fits(worker.serves.as_ref(), head, now))
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

    /// Notes what a worker is given. Nothing does not take the place of something.
    #[cfg(feature = "http")]
    pub(crate) fn give(&self, namespace: &Name, worker: &Name, question: u64, runs: Vec<RunId>, now: Timestamp) {
        if let Some(worker) = see(&mut self.known(), (namespace.clone(), worker.clone()), now) {
            let had = worker.asked.as_ref().is_some_and(|(asked, had)| *asked == question && !had.is_empty());
            if !(had && runs.is_empty()) {
                worker.asked = Some((question, runs));
            }
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

    /// Something happened to a run of a worker that another server names.
    pub(crate) fn tell_marked(&self, mark: WorkerMark, run: RunId) {
        let known = self.known();
        let meant = known.iter().filter(|((namespace, name), _)| WorkerMark::of(namespace, name) == mark);
        for news in meant.filter_map(|(_, worker)| worker.news.as_ref()) {
            news.runs().insert(run);
            news.came.notify_one();
        }
    }

    /// What a worker holds, on a store that nobody shares.
    pub(crate) fn held_by(&self, namespace: &Name, worker: &Name) -> Vec<RunId> {
        let known = self.known();
        let worker = known.get(&(namespace.clone(), worker.clone()));
        worker.map(|worker| worker.holds.keys().copied().collect()).unwrap_or_default()
    }

    /// The namespaces of workers that wait for news.
    pub(crate) fn listening(&self) -> BTreeSet<Name> {
        let known = self.known();
        known.iter().filter(|(_, worker)| worker.news.is_some()).map(|((namespace, _), _)| namespace.clone()).collect()
    }

    /// Takes what other servers are to be told.
    pub(crate) fn untold(&self) -> Vec<KnownWorker> {
        let mut known = self.known();
        let untold = known.iter_mut().filter(|(_, worker)| worker.untold);
        let tell = |((namespace, name), worker): (&Key, &mut Worker)| {
            worker.untold = false;
            let (namespace, name, serves) = (namespace.clone(), name.clone(), worker.serves.clone());
            KnownWorker { namespace, name, last_seen: worker.last_seen, serves }
        };
        untold.map(tell).collect()
    }

    /// They could not be told: the next time, then.
    pub(crate) fn not_told(&self, workers: &[KnownWorker]) {
        let mut known = self.known();
        for worker in workers {
            if let Some(worker) = known.get_mut(&(worker.namespace.clone(), worker.name.clone())) {
                worker.untold = true;
            }
        }
    }

    /// Since when other servers must have heard of a worker to be told of it, and how many of them.
    pub(crate) fn believed(now: Timestamp) -> (Timestamp, usize) {
        let since = now.as_millis().saturating_sub(FORGET_AFTER.as_millis() as u64);
        (Timestamp::from_millis(since), LIMIT)
    }

    /// What all servers know.
    pub(crate) fn learn(&self, workers: Vec<KnownWorker>) {
        if let Some(mut elsewhere) = self.elsewhere() {
            *elsewhere = workers;
        }
    }

    /// The workers of a namespace, by name, of all servers that share the store.
    pub(crate) fn list_shared(&self, namespace: &Name, now: Timestamp, holders: Vec<Holder>) -> Vec<WorkerInfo> {
        let mut all: BTreeMap<Name, WorkerInfo> =
            self.list(namespace, now).into_iter().map(|worker| (worker.name.clone(), worker)).collect();
        let elsewhere = self.elsewhere().map(|elsewhere| elsewhere.clone()).unwrap_or_default();
        let unknown = |name: Name| WorkerInfo { name, last_seen: Timestamp::EPOCH, holds: Vec::new(), serves: None };
        let heard_of =
            |worker: &KnownWorker| worker.namespace == *namespace && now.since(worker.last_seen) < FORGET_AFTER;
        for worker in elsewhere.into_iter().filter(heard_of) {
            let info = all.entry(worker.name.clone()).or_insert_with(|| unknown(worker.name));
            if info.last_seen <= worker.last_seen || info.serves.is_none() {
                info.serves = worker.serves.map(|(serves, _)| serves).or(info.serves.take());
            }
            info.last_seen = info.last_seen.max(worker.last_seen);
        }
        for (name, run, since) in holders {
            let info = all.entry(name.clone()).or_insert_with(|| unknown(name));
            info.holds.push((run, since));
            info.last_seen = info.last_seen.max(since);
        }
        all.into_values().collect()
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
    worker.untold = true;
    Some(worker)
}
