//! The queue's decisions: synchronous, told what time it is, called under one lock.

mod entry;
mod lane;
#[cfg(test)]
mod laws;
mod lease;
mod stream;
mod take;
mod waiter;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use aiki_core::{ReadyRun, RunId, Subscription};
use tokio::time::Instant;

use entry::{Entry, Place};
pub use lane::BURST;
use lane::{LANES, Turns, lane_of};
use stream::{StreamId, StreamKey, Streams};
use waiter::Waiter;
pub(crate) use waiter::WaiterId;

use crate::config::MemoryQueueConfig;

/// Names a subscription.
pub(crate) type ListenerId = u64;

/// A subscription that is not over.
#[derive(Debug)]
struct Listener {
    streams: Vec<StreamId>,
    /// Where the next round over the streams begins, for each lane.
    cursors: [usize; LANES],
    turns: Turns,
}

/// All streams, all runs in them, and all who listen.
#[derive(Debug)]
pub(crate) struct Broker {
    config: MemoryQueueConfig,
    streams: Streams,
    runs: HashMap<RunId, Entry>,
    /// Held runs, the one that was renewed longest ago first.
    held: BTreeMap<u64, RunId>,
    /// Runs that may not be delivered yet, by the time from which they may.
    delayed: BTreeMap<(Instant, u64), RunId>,
    listeners: BTreeMap<ListenerId, Listener>,
    waiters: BTreeMap<WaiterId, Waiter>,
    last_number: u64,
}

impl Broker {
    pub(crate) fn new(config: MemoryQueueConfig) -> Self {
        Self {
            config,
            streams: Streams::default(),
            runs: HashMap::new(),
            held: BTreeMap::new(),
            delayed: BTreeMap::new(),
            listeners: BTreeMap::new(),
            waiters: BTreeMap::new(),
            last_number: 0,
        }
    }

    pub(crate) fn config(&self) -> &MemoryQueueConfig {
        &self.config
    }

    /// Runs that could be received now.
    pub(crate) fn depth(&self) -> usize {
        self.runs.len() - self.held.len() - self.delayed.len()
    }

    /// Runs that are handed back for later.
    pub(crate) fn delayed(&self) -> usize {
        self.delayed.len()
    }

    /// Runs that are with a subscriber, be it a dead one.
    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    /// Takes in announcements; those that find no room are passed to `refused`.
    pub(crate) fn publish(&mut self, runs: &[ReadyRun], mut refused: impl FnMut(RunId)) {
        // Neighbours in a batch mostly share their stream.
        let mut last: Option<StreamId> = None;
        for run in runs {
            if self.runs.contains_key(&run.id) {
                self.publish_known(run.id);
                continue;
            }
            if self.runs.len() >= self.config.capacity {
                refused(run.id);
                continue;
            }
            let stream = match last.filter(|id| self.streams[*id].key.fits(run)) {
                Some(id) => {
                    self.streams.enter_again(id);
                    id
                }
                None => self.streams.enter(StreamKey::of(run)),
            };
            last = Some(stream);
            let lane = lane_of(run.priority);
            self.runs.insert(run.id, Entry { stream, lane, place: Place::Queued, again: false });
            self.streams[stream].lanes[lane].push_back(run.id);
            self.wake_one(stream);
        }
    }

    /// A run that is in the queue already is announced once more.
    fn publish_known(&mut self, run: RunId) {
        let Some(entry) = self.runs.get_mut(&run) else { return };
        match entry.place {
            Place::Queued => {}
            // It may have become ready again since it was delivered: the announcement must outlive
            // the acknowledgement that is on its way.
            Place::Held(_) => entry.again = true,
            Place::Delayed { key } => {
                self.delayed.remove(&key);
                self.enqueue(run, End::Back);
            }
        }
    }

    /// Begins a subscription.
    pub(crate) fn subscribe(&mut self, subscription: &Subscription) -> ListenerId {
        let pools: Vec<_> = match &subscription.pools[..] {
            [] => vec![None],
            pools => pools.iter().cloned().map(Some).collect(),
        };
        let mut streams = Vec::with_capacity(pools.len() * subscription.workflows.len());
        for workflow in &subscription.workflows {
            for pool in &pools {
                let namespace = subscription.namespace.clone();
                let key = StreamKey { namespace, pool: pool.clone(), workflow: workflow.clone() };
                let stream = self.streams.enter(key);
                if streams.contains(&stream) {
                    self.streams.leave(stream);
                } else {
                    streams.push(stream);
                }
            }
        }
        let id = self.number();
        self.listeners.insert(id, Listener { streams, cursors: [0; LANES], turns: Turns::default() });
        id
    }

    /// Whether the subscription is over.
    pub(crate) fn is_closed(&self, id: ListenerId) -> bool {
        !self.listeners.contains_key(&id)
    }

    /// Ends a subscription; with `hand_back`, what it holds is available at once.
    pub(crate) fn unsubscribe(&mut self, id: ListenerId, hand_back: bool) {
        self.wake_listener(id);
        let Some(listener) = self.listeners.remove(&id) else { return };
        if hand_back {
            self.hand_back_all(id);
        }
        for stream in listener.streams {
            // A call that was woken and now finds itself closed cannot pass its run on.
            if !self.streams[stream].is_empty() {
                self.wake_one(stream);
            }
            self.streams.leave(stream);
        }
    }

    /// Makes a run available and wakes somebody for it.
    fn enqueue(&mut self, run: RunId, end: End) {
        let Some(entry) = self.runs.get_mut(&run) else { return };
        entry.place = Place::Queued;
        entry.again = false;
        let stream = entry.stream;
        let lane = &mut self.streams[stream].lanes[entry.lane];
        match end {
            End::Front => lane.push_front(run),
            End::Back => lane.push_back(run),
        }
        self.wake_one(stream);
    }

    /// A number that was never given before: deliveries, renewals, listeners and waiters share them.
    fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }
}

/// Where a run joins its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It had its turn already and lost it.
    Front,
    /// It queues like a new one.
    Back,
}

/// `now` plus `duration`; far beyond the end of the process when that cannot be expressed.
pub(crate) fn later(now: Instant, duration: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(30 * 365 * 86_400);
    now.checked_add(duration).unwrap_or(now + FAR)
}
