//! What holds after every step, whatever the steps.

use std::collections::BTreeSet;
use std::time::Duration;

use aiki_core::subscriber::{DeliveryLease, ReleaseDelay};
use aiki_core::{Delivery, Name, Priority, ReadyRun, RunId, Subscription, WorkflowKey};
use proptest::prelude::*;
use tokio::time::Instant;

use super::entry::Place;
use super::waiter::WaiterId;
use super::{Broker, ListenerId};
use crate::config::MemoryQueueConfig;

const LEASE: Duration = Duration::from_millis(50);

#[derive(Clone, Debug)]
enum Step {
    Publish(Vec<u8>),
    Subscribe(u8),
    Take(usize, usize),
    Ack(usize),
    Renew(usize),
    Release(usize, u64),
    Wait(usize),
    StopWaiting(usize),
    Close(usize, bool),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::collection::vec(0_u8..24, 1..5).prop_map(Step::Publish),
        1 => (1_u8..8).prop_map(Step::Subscribe),
        4 => (any::<usize>(), 0_usize..4).prop_map(|(who, limit)| Step::Take(who, limit)),
        3 => any::<usize>().prop_map(Step::Ack),
        2 => any::<usize>().prop_map(Step::Renew),
        2 => (any::<usize>(), 0_u64..80).prop_map(|(which, delay)| Step::Release(which, delay)),
        3 => any::<usize>().prop_map(Step::Wait),
        2 => any::<usize>().prop_map(Step::StopWaiting),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(who, clean)| Step::Close(who, clean)),
        2 => (0_u64..40).prop_map(Step::Pass),
    ]
}

/// Run `n` belongs to stream `n % 3`; a listener hears the streams in its mask.
fn run(n: u8) -> ReadyRun {
    ReadyRun {
        id: RunId::from_bits(u128::from(n) << 24),
        namespace: Name::new("n"),
        workflow: workflow(n % 3),
        pool: None,
        priority: [Priority::High, Priority::Normal, Priority::Low][usize::from(n) % 2 + usize::from(n == 7)],
    }
}

fn workflow(stream: u8) -> WorkflowKey {
    WorkflowKey::user(format!("w{stream}"), "1")
}

struct Model {
    broker: Broker,
    now: Instant,
    listeners: Vec<ListenerId>,
    waiters: Vec<(ListenerId, WaiterId)>,
    deliveries: Vec<(ListenerId, Delivery)>,
    /// Announced and not settled since.
    open: BTreeSet<RunId>,
    /// Announced since it was last delivered.
    news: BTreeSet<RunId>,
}

impl Model {
    fn new() -> Self {
        let config = MemoryQueueConfig { claim_min_idle_time: LEASE, ..MemoryQueueConfig::default() };
        Self {
            broker: Broker::new(config),
            now: Instant::now(),
            listeners: Vec::new(),
            waiters: Vec::new(),
            deliveries: Vec::new(),
            open: BTreeSet::new(),
            news: BTreeSet::new(),
        }
    }

    fn subscribe(&mut self, mask: u8) -> ListenerId {
        let workflows = (0..3).filter(|stream| mask & (1 << stream) != 0).map(workflow).collect();
        let subscription =
            Subscription { worker: Name::new("w"), namespace: Name::new("n"), workflows, pools: Vec::new() };
        self.broker.subscribe(&subscription)
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Publish(runs) => {
                let runs: Vec<_> = runs.into_iter().map(run).collect();
                self.broker.publish(&runs, |run| panic!("{run} was refused"));
                self.open.extend(runs.iter().map(|run| run.id));
                self.news.extend(runs.iter().map(|run| run.id));
            }
            Step::Subscribe(mask) => {
                let id = self.subscribe(mask);
                self.listeners.push(id);
            }
            Step::Take(who, limit) => {
                if let Some(id) = pick(&self.listeners, who).copied() {
                    self.take(id, limit);
                }
            }
            Step::Ack(which) => {
                if let Some((id, delivery)) = pick(&self.deliveries, which).cloned() {
                    let mine = self.broker.mine(id, &delivery.receipt).is_some();
                    self.broker.ack(id, std::slice::from_ref(&delivery.receipt));
                    if mine && !self.news.contains(&delivery.run) {
                        self.open.remove(&delivery.run);
                    }
                }
            }
            Step::Renew(which) => {
                if let Some((id, delivery)) = pick(&self.deliveries, which).cloned() {
                    let mine = self.broker.mine(id, &delivery.receipt).is_some();
                    let leases = self.broker.heartbeat(id, &[delivery.receipt], self.now);
                    assert_eq!(leases[0] == DeliveryLease::Mine, mine);
                }
            }
            Step::Release(which, delay) => {
                if let Some((id, delivery)) = pick(&self.deliveries, which).cloned() {
                    let delay = ReleaseDelay::After(Duration::from_millis(delay));
                    self.broker.release(id, &[delivery.receipt], delay, self.now);
                }
            }
            // As `receive` does it: nothing was there, so it waits.
            Step::Wait(who) => {
                if let Some(id) = pick(&self.listeners, who).copied()
                    && self.take(id, 1) == 0
                {
                    let again = self.waiters.iter().find(|(listener, _)| *listener == id).map(|(_, waiter)| *waiter);
                    let (waiter, _) = self.broker.wait(id, again);
                    if again.is_none() {
                        self.waiters.push((id, waiter));
                    }
                }
            }
            Step::StopWaiting(which) => {
                if !self.waiters.is_empty() {
                    let (_, waiter) = self.waiters.swap_remove(which % self.waiters.len());
                    self.broker.stop_waiting(waiter);
                }
            }
            Step::Close(who, clean) => {
                if !self.listeners.is_empty() {
                    let id = self.listeners.swap_remove(who % self.listeners.len());
                    self.broker.unsubscribe(id, clean);
                }
            }
            Step::Pass(ms) => self.now += Duration::from_millis(ms),
        }
    }

    fn take(&mut self, id: ListenerId, limit: usize) -> usize {
        let taken = self.broker.take(id, limit, self.now);
        assert!(taken.len() <= limit);
        for delivery in &taken {
            assert!(self.open.contains(&delivery.run), "{} is settled", delivery.run);
            self.news.remove(&delivery.run);
        }
        let count = taken.len();
        self.deliveries.extend(taken.into_iter().map(|delivery| (id, delivery)));
        count
    }

    fn check(&self) {
        let broker = &self.broker;
        assert_eq!(broker.runs.keys().copied().collect::<BTreeSet<_>>(), self.open);
        let mut queued = 0;
        for (id, entry) in &broker.runs {
            match entry.place {
                Place::Queued => {
                    queued += 1;
                    assert!(broker.streams[entry.stream].lanes[entry.lane].contains(id));
                }
                Place::Delayed { key } => assert_eq!(broker.delayed.get(&key), Some(id)),
                Place::Held(hold) => assert_eq!(broker.held.get(&hold.turn), Some(id)),
            }
            // Nobody sleeps beside a run that is there for them: whoever waits unwoken is waited for.
            let stream = &broker.streams[entry.stream];
            if !stream.is_empty() {
                let listens = |listener: ListenerId| {
                    broker.listeners.get(&listener).is_some_and(|listener| listener.streams.contains(&entry.stream))
                };
                let woken = broker.waiters.values().any(|waiter| waiter.is_woken() && listens(waiter.listener()));
                assert!(stream.waiting.is_empty() || woken, "a call sleeps beside a run");
            }
        }
        assert_eq!(queued, broker.depth());
    }
}

fn pick<T>(from: &[T], which: usize) -> Option<&T> {
    if from.is_empty() { None } else { from.get(which % from.len()) }
}

proptest! {
    #[test]
    fn nothing_is_lost_or_held_twice_or_slept_beside(steps in prop::collection::vec(step(), 0..120)) {
        let mut model = Model::new();
        for step in steps {
            model.apply(step);
            model.check();
        }
        // After all leases and delays, one listener gets every run that is open, each once.
        model.now += Duration::from_secs(1);
        let id = model.subscribe(7);
        let rest = model.broker.take(id, 1000, model.now);
        prop_assert_eq!(rest.len(), model.open.len());
        prop_assert_eq!(rest.iter().map(|delivery| delivery.run).collect::<BTreeSet<_>>(), model.open);
        // And when that is settled and everybody has gone, nothing is left.
        let receipts: Vec<_> = rest.into_iter().map(|delivery| delivery.receipt).collect();
        model.broker.ack(id, &receipts);
        for listener in model.listeners.drain(..).chain([id]) {
            model.broker.unsubscribe(listener, true);
        }
        prop_assert!(model.broker.runs.is_empty() && model.broker.held.is_empty() && model.broker.streams.is_empty());
    }
}
