//! Which workers are on the line, and whose connection broke.
//!
//! A worker always has a question for news open, and asks again at once when its connection breaks. One that does not
//! come back within the grace has most likely died with its connection: its runs are given to others, without waiting for
//! their leases. If it lives all the same, its claims are fenced as ever. When all workers go at once, it was the line
//! and not they: then leases decide.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use aiki_core::{Name, RunId, ServerError};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use crate::notice::WorkerMark;
use crate::operation::TakeBack;
use crate::server::Inner;

/// How long a worker has to come back unless told otherwise.
pub(crate) const GRACE: Duration = Duration::from_millis(400);
/// Breaks are remembered for so many times the grace.
const REMEMBER: u32 = 5;
/// At most so many workers are judged at the same time. For the others leases decide.
const LIMIT: usize = 1_000;
/// At most so many runs are taken back in one commit.
const BATCH_LIMIT: usize = 512;
/// At most so many holders of a shared store are looked through.
const HOLDERS: usize = 10_000;
/// Questions to other servers that wait to be sent. When there are more, leases decide.
const QUESTIONS: usize = 64;

/// A worker of a namespace.
type Key = (Name, Name);

/// Whether another server hears a worker. Answered when it was sent.
pub(crate) type Question = (WorkerMark, oneshot::Sender<()>);

#[derive(Debug, Default)]
struct Presence {
    /// Open questions for news.
    open: usize,
    /// The last time that it came, counted over all workers: no two visits have the same number.
    visit: u64,
    broke: Option<Instant>,
}

/// What became of a worker whose connection broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judgement {
    Back,
    /// Everybody went at the same moment.
    LineIsDown,
    Gone,
}

/// All workers that are on the line, or just were.
#[derive(Debug)]
pub(crate) struct Presences {
    grace: Duration,
    known: Mutex<HashMap<Key, Presence>>,
    visits: AtomicU64,
    /// Leads to the servers that share the store.
    others: Option<mpsc::Sender<Question>>,
}

impl Presences {
    /// For a store that nobody shares. Without a grace, leases alone decide.
    pub(crate) fn new(grace: Duration) -> Self {
        Self { grace, known: Mutex::default(), visits: AtomicU64::default(), others: None }
    }

    /// For a store that others use as well or not, and the questions to them.
    #[cfg(feature = "postgres")]
    pub(crate) fn for_store(grace: Duration, shared: bool) -> (Self, mpsc::Receiver<Question>) {
        let (others, questions) = mpsc::channel(QUESTIONS);
        (Self { others: shared.then_some(others), ..Self::new(grace) }, questions)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Key, Presence>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_visit(&self) -> u64 {
        self.visits.fetch_add(1, Ordering::Relaxed)
    }

    fn enter(&self, key: &Key) {
        let mut known = self.known();
        let presence = known.entry(key.clone()).or_default();
        presence.open += 1;
        presence.visit = self.next_visit();
        presence.broke = None;
    }

    /// Ends a question. When it was the last one and its connection broke, answers the worker's last visit.
    fn leave(&self, key: &Key, broke: bool) -> Option<u64> {
        let mut known = self.known();
        let presence = known.get_mut(key)?;
        presence.open = presence.open.saturating_sub(1);
        if presence.open > 0 {
            return None;
        }
        if !broke || self.grace.is_zero() {
            // Its next question is on its way, or it has ended in good order.
            known.remove(key);
            return None;
        }
        let now = Instant::now();
        presence.broke = Some(now);
        let visit = presence.visit;
        let remembered = |at: Instant| now.duration_since(at) < self.grace.saturating_mul(REMEMBER);
        known.retain(|_, presence| presence.open > 0 || presence.broke.is_some_and(remembered));
        let gone = known.values().filter(|presence| presence.broke.is_some()).count();
        (gone <= LIMIT).then_some(visit)
    }

    fn judge(&self, key: &Key, visit: u64) -> Judgement {
        let known = self.known();
        let Some(Presence { open: 0, visit: last, broke: Some(broke) }) = known.get(key) else {
            return Judgement::Back;
        };
        if *last != visit {
            return Judgement::Back;
        }
        let near = |at: &Instant| at.max(broke).duration_since(*at.min(broke)) <= self.grace;
        let mut others = known.iter().filter(|(other, _)| *other != key).map(|(_, presence)| presence);
        let somebody_is_there = others.clone().any(|presence| presence.open > 0);
        match !somebody_is_there && others.any(|presence| presence.broke.as_ref().is_some_and(near)) {
            true => Judgement::LineIsDown,
            false => Judgement::Gone,
        }
    }

    /// A worker is heard of by other means than its question for news.
    pub(crate) fn heard_of(&self, namespace: &Name, worker: &Name) {
        if let Some(presence) = self.known().get_mut(&(namespace.clone(), worker.clone())) {
            presence.visit = self.next_visit();
        }
    }

    /// Whether a worker that another server names is on the line here.
    pub(crate) fn is_here(&self, mark: WorkerMark) -> bool {
        self.known()
            .iter()
            .any(|((namespace, name), presence)| presence.open > 0 && WorkerMark::of(namespace, name) == mark)
    }

    /// Another server hears a worker.
    pub(crate) fn is_elsewhere(&self, mark: WorkerMark) {
        let mut known = self.known();
        let meant = known.iter_mut().filter(|((namespace, name), _)| WorkerMark::of(namespace, name) == mark);
        meant.for_each(|(_, presence)| presence.visit = self.next_visit());
    }

    /// Asks the servers that share the store; answers whether they were asked.
    async fn ask_others(&self, (namespace, worker): &Key) -> bool {
        let Some(others) = &self.others else { return true };
        let (sent, was_sent) = oneshot::channel();
        let asked = others.try_send((WorkerMark::of(namespace, worker), sent)).is_ok();
        asked && timeout(self.grace, was_sent).await.is_ok_and(|sent| sent.is_ok())
    }
}

/// A worker's open question for news. When it is dropped without an answer, the connection broke.
pub(crate) struct Visit {
    server: Weak<Inner>,
    key: Key,
    answered: bool,
}

impl Visit {
    pub(crate) fn begin(server: &Arc<Inner>, namespace: &Name, worker: &Name) -> Self {
        let key = (namespace.clone(), worker.clone());
        server.presences.enter(&key);
        Self { server: Arc::downgrade(server), key, answered: false }
    }

    /// It ends with an answer.
    pub(crate) fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let Some(server) = self.server.upgrade() else { return };
        let broke = !self.answered && !server.is_ending();
        let Some(visit) = server.presences.leave(&self.key, broke) else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(look_after(Weak::clone(&self.server), self.key.clone(), visit));
        }
    }
}

/// Waits for the worker to come back, here or at another server; gives its runs to others when it does not.
async fn look_after(server: Weak<Inner>, key: Key, visit: u64) {
    let Some(grace) = server.upgrade().map(|server| server.presences.grace) else { return };
    sleep(grace).await;
    let Some(here) = server.upgrade() else { return };
    let (mut judgement, mut asked) = (here.presences.judge(&key, visit), true);
    if judgement == Judgement::Gone && here.presences.others.is_some() {
        asked = here.presences.ask_others(&key).await;
        drop(here);
        sleep(grace / 2).await;
        let Some(here) = server.upgrade() else { return };
        judgement = here.presences.judge(&key, visit);
    }
    let Some(server) = server.upgrade().filter(|server| !server.is_ending()) else { return };
    let worker = key.1.as_str();
    match judgement {
        Judgement::Back => {}
        Judgement::LineIsDown => tracing::warn!(worker, "the connections of all workers broke: leases decide"),
        Judgement::Gone if !asked => {
            tracing::info!(
                worker,
                "the worker's connection broke and other servers cannot be asked: its leases decide"
            );
        }
        Judgement::Gone => match take_back(&server, &key).await {
            Ok(0) => {}
            Ok(runs) => tracing::warn!(worker, runs, "the worker's connection broke: its runs are given to others"),
            Err(error) => tracing::warn!(worker, %error, "runs of a worker that is gone wait for their leases to end"),
        },
    }
}

async fn take_back(server: &Inner, (namespace, worker): &Key) -> Result<usize, ServerError> {
    let runs: Vec<RunId> = if server.workers.is_shared() {
        let (of, name) = (namespace.clone(), worker.clone());
        let holders = server.readers.read(move |store| store.holders(&of, HOLDERS)).await?;
        holders.into_iter().filter(|(owner, _, _)| *owner == name).map(|(_, run, _)| run).collect()
    } else {
        server.workers.held_by(namespace, worker)
    };
    let mut count = 0;
    for some in runs.chunks(BATCH_LIMIT) {
        let take_back = TakeBack { namespace: namespace.clone(), worker: worker.clone(), runs: some.to_vec() };
        count += server.lane.call(take_back).await?;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(worker: &str) -> Key {
        (Name::new("n"), Name::new(worker))
    }

    fn broken(presences: &Presences, worker: &str) -> u64 {
        presences.enter(&key(worker));
        presences.leave(&key(worker), true).unwrap()
    }

    #[test]
    fn who_does_not_come_back_is_gone_and_who_does_is_not() {
        let presences = Presences::new(GRACE);
        presences.enter(&key("other"));
        let (gone, back) = (broken(&presences, "gone"), broken(&presences, "back"));
        presences.enter(&key("back"));
        assert_eq!(presences.judge(&key("gone"), gone), Judgement::Gone);
        assert_eq!(presences.judge(&key("back"), back), Judgement::Back);
        let said = broken(&presences, "said");
        presences.heard_of(&key("said").0, &key("said").1);
        assert_eq!(presences.judge(&key("said"), said), Judgement::Back);
        // Also when its next question was answered meanwhile.
        presences.leave(&key("back"), false);
        assert_eq!(presences.judge(&key("back"), back), Judgement::Back);
    }

    #[test]
    fn one_that_came_asked_and_broke_again_gets_a_grace_of_its_own() {
        let presences = Presences::new(GRACE);
        presences.enter(&key("other"));
        let first = broken(&presences, "w");
        presences.enter(&key("w"));
        // Answered, and the next question breaks.
        presences.leave(&key("w"), false);
        let second = broken(&presences, "w");
        assert_eq!(presences.judge(&key("w"), first), Judgement::Back);
        assert_eq!(presences.judge(&key("w"), second), Judgement::Gone);
    }

    #[test]
    fn one_of_two_connections_that_breaks_means_nothing() {
        let presences = Presences::new(GRACE);
        presences.enter(&key("w"));
        presences.enter(&key("w"));
        assert_eq!(presences.leave(&key("w"), true), None);
    }

    #[test]
    fn when_all_go_at_once_it_was_the_line() {
        let presences = Presences::new(GRACE);
        let (first, second) = (broken(&presences, "a"), broken(&presences, "b"));
        assert_eq!(presences.judge(&key("a"), first), Judgement::LineIsDown);
        assert_eq!(presences.judge(&key("b"), second), Judgement::LineIsDown);
        presences.enter(&key("c"));
        assert_eq!(presences.judge(&key("b"), second), Judgement::Gone);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_went_earlier_makes_no_broken_line() {
        let presences = Presences::new(GRACE);
        broken(&presences, "a");
        sleep(GRACE + Duration::from_millis(1)).await;
        let last = broken(&presences, "b");
        assert_eq!(presences.judge(&key("b"), last), Judgement::Gone);
    }

    #[test]
    fn a_worker_that_another_server_hears_is_back() {
        let presences = Presences::new(GRACE);
        let visits = broken(&presences, "w");
        let (namespace, name) = key("w");
        presences.is_elsewhere(WorkerMark::of(&namespace, &name));
        assert_eq!(presences.judge(&key("w"), visits), Judgement::Back);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_left_of_those_who_went() {
        let presences = Presences::new(GRACE);
        for n in 0..100 {
            broken(&presences, &format!("w{n}"));
        }
        sleep(GRACE * REMEMBER).await;
        broken(&presences, "last");
        assert_eq!(presences.known().len(), 1);
        presences.enter(&key("ended"));
        presences.leave(&key("ended"), false);
        assert_eq!(presences.known().len(), 1);
    }

    #[test]
    fn however_many_are_on_the_line_one_that_goes_is_missed() {
        let presences = Presences::new(GRACE);
        (0..2 * LIMIT).for_each(|n| presences.enter(&key(&format!("w{n}"))));
        let gone = presences.leave(&key("w0"), true).unwrap();
        assert_eq!(presences.judge(&key("w0"), gone), Judgement::Gone);
    }

    #[test]
    fn without_a_grace_leases_decide() {
        let presences = Presences::new(Duration::ZERO);
        presences.enter(&key("w"));
        assert_eq!(presences.leave(&key("w"), true), None);
        assert!(presences.known().is_empty());
    }
}
