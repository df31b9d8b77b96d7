//! What has reached the run from outside and nobody has taken yet.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::payload::Payload;
use crate::run::record::Signal;
use crate::run::{ReceivedEvent, RunRecord, RunState, WaitState};

/// Events in order of arrival, and the ends of children.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    events: Vec<ReceivedEvent>,
    waiting: HashMap<String, BTreeSet<u32>>,
    ended: BTreeMap<u32, RunState>,
    /// Signals that the run has had in its life, as far as they are known here.
    known: u32,
}

impl Inbox {
    /// Takes what the record has; events that a recorded wait ended with are taken already.
    pub(super) fn new(record: &mut RunRecord) -> Self {
        let mut inbox = Self { known: record.ordinals.signals, ..Self::default() };
        for event in std::mem::take(&mut record.events) {
            inbox.put(event);
        }
        for wait in &record.waits {
            if let WaitState::Completed { event: Some(index) } = wait.state {
                inbox.take_at(index);
            }
        }
        for child in &record.children {
            if let Some(state) = &child.ended {
                inbox.ended.insert(child.ordinal, state.clone());
            }
        }
        inbox
    }

    fn put(&mut self, event: ReceivedEvent) {
        let index = self.events.len() as u32;
        self.waiting.entry(event.name.clone()).or_default().insert(index);
        self.events.push(event);
    }

    fn take_at(&mut self, index: u32) {
        if let Some(event) = self.events.get(index as usize)
            && let Some(waiting) = self.waiting.get_mut(&event.name)
        {
            waiting.remove(&index);
        }
    }

    /// Further signals, those behind the `after` that the run had had before.
    pub(super) fn deliver(&mut self, after: u32, signals: Vec<Signal>) {
        let skip = self.known.saturating_sub(after) as usize;
        self.known = self.known.max(after + signals.len() as u32);
        for signal in signals.into_iter().skip(skip) {
            match signal {
                Signal::Event(event) => self.put(event),
                Signal::ChildEnded { child, state } => drop(self.ended.insert(child, state)),
            }
        }
    }

    pub(super) fn known(&self) -> u32 {
        self.known
    }

    pub(super) fn has_event(&self, name: &str) -> bool {
        self.waiting.get(name).is_some_and(|waiting| !waiting.is_empty())
    }

    /// Takes the next event of a name.
    pub(super) fn take_event(&mut self, name: &str) -> Option<(u32, Option<Payload>)> {
        let index = self.waiting.get_mut(name)?.pop_first()?;
        Some((index, self.data(index)))
    }

    /// Puts back an event that was taken and did not reach the handler.
    pub(super) fn put_back(&mut self, index: u32) {
        if let Some(event) = self.events.get(index as usize) {
            self.waiting.entry(event.name.clone()).or_default().insert(index);
        }
    }

    pub(super) fn data(&self, index: u32) -> Option<Payload> {
        self.events.get(index as usize)?.data.clone()
    }

    pub(super) fn ended(&self, child: u32) -> Option<&RunState> {
        self.ended.get(&child)
    }

    /// The events that nobody has taken, in order of arrival.
    pub(super) fn take_left(&mut self) -> Vec<ReceivedEvent> {
        let mut left: Vec<u32> = self.waiting.drain().flat_map(|(_, waiting)| waiting).collect();
        left.sort_unstable();
        left.into_iter().filter_map(|index| self.events.get(index as usize).cloned()).collect()
    }
}
