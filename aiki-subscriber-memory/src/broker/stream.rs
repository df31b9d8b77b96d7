//! Streams: one for each namespace, pool and workflow version.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ops::{Index, IndexMut};

use aiki_core::{Name, ReadyRun, RunId, WorkflowKey};

use super::lane::LANES;
use super::waiter::WaiterId;

/// What a stream is found by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct StreamKey {
    pub(super) namespace: Name,
    pub(super) pool: Option<Name>,
    pub(super) workflow: WorkflowKey,
}

impl StreamKey {
    pub(super) fn of(run: &ReadyRun) -> Self {
        Self { namespace: run.namespace.clone(), pool: run.pool.clone(), workflow: run.workflow.clone() }
    }

    pub(super) fn fits(&self, run: &ReadyRun) -> bool {
        self.workflow == run.workflow && self.pool == run.pool && self.namespace == run.namespace
    }
}

/// The place of a stream in [`Streams`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct StreamId(usize);

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) key: StreamKey,
    /// Runs that wait, oldest first.
    pub(super) lanes: [VecDeque<RunId>; LANES],
    /// Calls of `receive` that wait for a run of this stream, oldest first.
    pub(super) waiting: BTreeSet<WaiterId>,
    /// Runs and subscriptions that name this stream; without any it is forgotten.
    users: usize,
}

impl Stream {
    pub(super) fn is_empty(&self) -> bool {
        self.lanes.iter().all(VecDeque::is_empty)
    }
}

/// All streams that somebody uses.
#[derive(Debug, Default)]
pub(super) struct Streams {
    slots: Vec<Stream>,
    free: Vec<StreamId>,
    by_key: HashMap<StreamKey, StreamId>,
}

impl Streams {
    /// The stream of this key, made if need be, with one user more.
    pub(super) fn enter(&mut self, key: StreamKey) -> StreamId {
        let id = match self.by_key.get(&key) {
            Some(id) => *id,
            None => self.add(key),
        };
        self[id].users += 1;
        id
    }

    /// One user more for a stream that is known to be in use.
    pub(super) fn enter_again(&mut self, id: StreamId) {
        self[id].users += 1;
    }

    /// One user less.
    pub(super) fn leave(&mut self, id: StreamId) {
        let stream = &mut self.slots[id.0];
        stream.users -= 1;
        if stream.users == 0 {
            self.by_key.remove(&stream.key);
            self.free.push(id);
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    fn add(&mut self, key: StreamKey) -> StreamId {
        let stream = Stream {
            key: key.clone(),
            lanes: std::array::from_fn(|_| VecDeque::new()),
            waiting: BTreeSet::new(),
            users: 0,
        };
        let id = match self.free.pop() {
            Some(id) => {
                self.slots[id.0] = stream;
                id
            }
            None => {
                self.slots.push(stream);
                StreamId(self.slots.len() - 1)
            }
        };
        self.by_key.insert(key, id);
        id
    }
}

impl Index<StreamId> for Streams {
    type Output = Stream;

    fn index(&self, id: StreamId) -> &Stream {
        &self.slots[id.0]
    }
}

impl IndexMut<StreamId> for Streams {
    fn index_mut(&mut self, id: StreamId) -> &mut Stream {
        &mut self.slots[id.0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_nobody_uses_leaves_its_slot_to_another() {
        let key = |version: &str| StreamKey {
            namespace: Name::new("n"),
            pool: None,
            workflow: WorkflowKey::user("w", version),
        };
        let mut streams = Streams::default();
        for version in 0..100 {
            let id = streams.enter(key(&version.to_string()));
            assert_eq!(streams.enter(key(&version.to_string())), id);
            streams.leave(id);
            streams.leave(id);
        }
        assert_eq!((streams.slots.len(), streams.by_key.len()), (1, 0));
    }
}
