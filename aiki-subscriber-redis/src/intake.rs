//! Where deliveries wait for a `receive`, and `receive` for deliveries.
//!
//! One loop fills it, or on a cluster one for each pool. What one of them is about to take the others leave alone.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aiki_core::subscriber::Receipt;
use aiki_core::{Delivery, SubscriberError};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// What the loops that read and the calls of `receive` share. Nothing awaits under its lock.
#[derive(Debug)]
pub(crate) struct Intake {
    state: Mutex<State>,
    /// Something for `receive`: deliveries, trouble, the end.
    arrived: Notify,
    /// Something for the loops: somebody wants deliveries, or the end.
    wanted: Notify,
}

#[derive(Debug, Default)]
struct State {
    ready: VecDeque<(Instant, Delivery)>,
    /// The limits of all that wait in `receive`.
    wanted: usize,
    /// What loops are taking at this moment.
    reserved: usize,
    /// Everything that was read and not settled, and when it was last known to be ours.
    held: HashMap<Receipt, Instant>,
    loops: Vec<Loop>,
    closed: bool,
}

/// What one loop says of itself.
#[derive(Clone, Debug, Default)]
struct Loop {
    trouble: Option<String>,
    broken: Vec<String>,
}

impl Intake {
    pub(crate) fn new(loops: usize) -> Self {
        let state = State { loops: vec![Loop::default(); loops], ..State::default() };
        Self { state: Mutex::new(state), arrived: Notify::new(), wanted: Notify::new() }
    }

    /// No step under the lock can panic halfway, so a poisoned lock guards a sound state.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for deliveries, at most until `end`. There is no await between taking and returning.
    pub(crate) async fn receive(&self, limit: usize, end: Instant) -> Result<Vec<Delivery>, SubscriberError> {
        let _wanting = Wanting::begin(self, limit);
        loop {
            let arrived = self.arrived.notified();
            tokio::pin!(arrived);
            arrived.as_mut().enable();
            {
                let mut state = self.lock();
                if state.closed {
                    return Err(SubscriberError::Closed);
                }
                let count = limit.min(state.ready.len());
                if count > 0 {
                    return Ok(state.ready.drain(..count).map(|(_, delivery)| delivery).collect());
                }
                if let Some(trouble) = state.trouble_of_all() {
                    return Err(SubscriberError::Unavailable(trouble.clone()));
                }
                if limit == 0 || Instant::now() >= end {
                    return Ok(Vec::new());
                }
            }
            // Woken or not, the state is looked at again.
            let _ = timeout_at(end, arrived).await;
        }
    }

    /// How many deliveries are wanted beyond those that are ready.
    pub(crate) fn demand(&self) -> usize {
        let state = self.lock();
        state.demand()
    }

    /// Keeps other loops from taking what this one is about to take: as many as are wanted now.
    pub(crate) fn reserve(self: &Arc<Self>) -> Reserved {
        let mut state = self.lock();
        let count = state.demand();
        state.reserved += count;
        drop(state);
        Reserved { intake: self.clone(), count }
    }

    /// Waits until deliveries are wanted or the subscription ends; at most so long.
    pub(crate) async fn wait_for_demand(&self, longest: Duration) {
        let wanted = self.wanted.notified();
        tokio::pin!(wanted);
        wanted.as_mut().enable();
        if self.demand() == 0 && !self.is_closed() {
            let _ = timeout_at(Instant::now() + longest, wanted).await;
        }
    }

    /// Waits for the end.
    pub(crate) async fn closing(&self) {
        loop {
            let changed = self.arrived.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.is_closed() {
                return;
            }
            changed.await;
        }
    }

    pub(crate) fn deliver(&self, deliveries: Vec<Delivery>) {
        if deliveries.is_empty() {
            return;
        }
        let now = Instant::now();
        let mut state = self.lock();
        for delivery in deliveries {
            state.held.insert(delivery.receipt.clone(), now);
            state.ready.push_back((now, delivery));
        }
        drop(state);
        self.arrived.notify_waiters();
    }

    /// Takes out what has waited for too long for anybody to want it, of the loop that asks.
    pub(crate) fn unwanted(&self, patience: Duration, is_ours: impl Fn(&Receipt) -> bool) -> Vec<Receipt> {
        let mut state = self.lock();
        let mut receipts = Vec::new();
        state.ready.retain(|(since, delivery)| {
            let old = since.elapsed() > patience && is_ours(&delivery.receipt);
            if old {
                receipts.push(delivery.receipt.clone());
            }
            !old
        });
        for receipt in &receipts {
            state.held.remove(receipt);
        }
        receipts
    }

    pub(crate) fn holds(&self, receipt: &Receipt) -> bool {
        self.lock().held.contains_key(receipt)
    }

    pub(crate) fn held(&self) -> Vec<Receipt> {
        self.lock().held.keys().cloned().collect()
    }

    /// Forgets what nobody has renewed for so long: the worker has lost track of it.
    pub(crate) fn forget_older_than(&self, age: Duration) {
        self.lock().held.retain(|_, since| since.elapsed() <= age);
    }

    pub(crate) fn renewed(&self, receipt: &Receipt, at: Instant) {
        if let Some(since) = self.lock().held.get_mut(receipt) {
            *since = at;
        }
    }

    pub(crate) fn forget<'a>(&self, receipts: impl IntoIterator<Item = &'a Receipt>) {
        let mut state = self.lock();
        for receipt in receipts {
            state.held.remove(receipt);
        }
    }

    /// What is wrong with one loop, or that nothing is any more.
    pub(crate) fn set_trouble(&self, at: usize, trouble: Option<String>) {
        let mut state = self.lock();
        let wakes = trouble.is_some();
        state.loops[at].trouble = trouble;
        drop(state);
        if wakes {
            self.arrived.notify_waiters();
        }
    }

    pub(crate) fn set_broken(&self, at: usize, broken: Vec<String>) {
        self.lock().loops[at].broken = broken;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_waiters();
        self.wanted.notify_waiters();
    }

    /// Trouble of any loop, broken streams and the number of deliveries held.
    pub(crate) fn look(&self) -> (Option<String>, Vec<String>, usize) {
        let state = self.lock();
        let trouble = state.loops.iter().find_map(|each| each.trouble.clone());
        let broken = state.loops.iter().flat_map(|each| each.broken.iter().cloned()).collect();
        (trouble, broken, state.held.len())
    }
}

impl State {
    fn demand(&self) -> usize {
        self.wanted.saturating_sub(self.ready.len() + self.reserved)
    }

    /// As long as one loop goes on, so does `receive`.
    fn trouble_of_all(&self) -> Option<&String> {
        let all = self.loops.iter().all(|each| each.trouble.is_some());
        self.loops.first().filter(|_| all).and_then(|each| each.trouble.as_ref())
    }
}

/// What one loop is about to take. Dropped when it has, or has not.
#[derive(Debug)]
pub(crate) struct Reserved {
    intake: Arc<Intake>,
    pub(crate) count: usize,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let mut state = self.intake.lock();
        state.reserved = state.reserved.saturating_sub(self.count);
    }
}

/// A call of `receive` that waits. Dropped with its future.
struct Wanting<'a> {
    intake: &'a Intake,
    limit: usize,
}

impl<'a> Wanting<'a> {
    fn begin(intake: &'a Intake, limit: usize) -> Self {
        let mut state = intake.lock();
        state.wanted = state.wanted.saturating_add(limit);
        drop(state);
        intake.wanted.notify_waiters();
        Self { intake, limit }
    }
}

impl Drop for Wanting<'_> {
    fn drop(&mut self) {
        let mut state = self.intake.lock();
        state.wanted = state.wanted.saturating_sub(self.limit);
    }
}

#[cfg(test)]
mod tests {
    use aiki_core::{RunId, WorkflowKey};

    use super::*;

    fn deliveries(count: u128) -> Vec<Delivery> {
        let delivery = |number| Delivery {
            run: RunId::from_bits(number << 24),
            workflow: WorkflowKey::user("orders", "1.0.0"),
            receipt: Receipt(format!("{number}-0 stream")),
            claimed: None,
        };
        (1..=count).map(delivery).collect()
    }

    fn later(ms: u64) -> Instant {
        Instant::now() + Duration::from_millis(ms)
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_receive_takes_nothing_and_wants_nothing_any_more() {
        let intake = Intake::new(1);
        {
            let waiting = intake.receive(8, later(1_000));
            tokio::pin!(waiting);
            assert!(tokio::time::timeout(Duration::from_millis(1), &mut waiting).await.is_err());
            assert_eq!(intake.demand(), 8);
            intake.deliver(deliveries(3));
            assert_eq!(intake.demand(), 5);
        }
        assert_eq!(intake.demand(), 0);
        assert_eq!(intake.receive(2, later(0)).await.unwrap(), deliveries(2));
        assert_eq!(intake.receive(2, later(0)).await.unwrap(), deliveries(3)[2..]);
        assert_eq!(intake.held().len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_wants_is_given_up_after_a_while_and_not_before() {
        let intake = Intake::new(1);
        intake.deliver(deliveries(2));
        assert_eq!(intake.unwanted(Duration::from_millis(10), |_| true), []);
        tokio::time::advance(Duration::from_millis(11)).await;
        intake.deliver(deliveries(3).split_off(2));
        assert_eq!(intake.unwanted(Duration::from_millis(10), |_| false), [], "another loop's");
        assert_eq!(intake.unwanted(Duration::from_millis(10), |_| true).len(), 2);
        assert_eq!(intake.held().len(), 1);
        assert_eq!(intake.receive(8, later(0)).await.unwrap(), deliveries(3)[2..]);
    }

    #[tokio::test(start_paused = true)]
    async fn trouble_and_the_end_wake_whoever_waits_and_deliveries_go_before_trouble() {
        let intake = Intake::new(1);
        let trouble = async { intake.set_trouble(0, Some("gone".into())) };
        let (answer, ()) = tokio::join!(intake.receive(1, later(1_000)), trouble);
        assert_eq!(answer, Err(SubscriberError::Unavailable("gone".into())));
        intake.deliver(deliveries(1));
        assert_eq!(intake.receive(1, later(0)).await.unwrap(), deliveries(1));
        intake.set_trouble(0, None);
        let (answer, ()) = tokio::join!(intake.receive(1, later(1_000)), async { intake.close() });
        assert_eq!(answer, Err(SubscriberError::Closed));
        intake.closing().await;
    }

    #[tokio::test(start_paused = true)]
    async fn two_loops_together_take_no_more_than_is_wanted() {
        let intake = Arc::new(Intake::new(2));
        let waiting = intake.receive(8, later(1_000));
        tokio::pin!(waiting);
        assert!(tokio::time::timeout(Duration::from_millis(1), &mut waiting).await.is_err());
        let first = intake.reserve();
        assert_eq!((first.count, intake.reserve().count), (8, 0));
        drop(first);
        intake.deliver(deliveries(3));
        assert_eq!(intake.reserve().count, 5);
    }

    #[tokio::test(start_paused = true)]
    async fn the_trouble_of_one_loop_does_not_stop_the_other() {
        let intake = Intake::new(2);
        intake.set_trouble(1, Some("one".into()));
        assert_eq!(intake.receive(1, later(10)).await, Ok(Vec::new()));
        assert_eq!(intake.look().0.as_deref(), Some("one"));
        intake.set_trouble(0, Some("both".into()));
        assert_eq!(intake.receive(1, later(10)).await, Err(SubscriberError::Unavailable("both".into())));
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_worker_has_lost_track_of_is_forgotten() {
        let intake = Intake::new(1);
        intake.deliver(deliveries(2));
        let both = intake.receive(2, later(0)).await.unwrap();
        tokio::time::advance(Duration::from_secs(5)).await;
        intake.renewed(&both[0].receipt, Instant::now());
        intake.forget_older_than(Duration::from_secs(4));
        assert!(intake.holds(&both[0].receipt) && !intake.holds(&both[1].receipt));
    }
}
