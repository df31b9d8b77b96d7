//! Children, and waiting for them and for events.

use super::{Close, Phase, RunMachine};
use crate::failure::ErrorObject;
use crate::id::RunId;
use crate::payload::{Payload, PayloadError};
use crate::replay::step::{ChildCall, StepId, StepKind, StepOutcome, StepState, WaitCall, WaitTarget};
use crate::report::Transition;
use crate::run::record::Signal;
use crate::run::{RunState, WaitOn, WaitState};
use crate::time::Timestamp;

impl RunMachine {
    /// A handler starts a child. Nothing comes of the step itself: wait for the child.
    pub fn open_child(&mut self, call: ChildCall) -> StepId {
        self.last_call = Some(call.location);
        let recorded = if self.is_open() { self.recorded.take_child(&call.start) } else { None };
        if let Some(child) = recorded {
            let (ordinal, run) = (Some(child.ordinal), child.run);
            let kind = StepKind::Child { ordinal, run, call: Box::new(call), cancel: false, answered: true };
            return self.push(kind, StepState::Done);
        }
        let kind = StepKind::Child { ordinal: None, run: None, call: Box::new(call), cancel: false, answered: false };
        if !self.is_open() {
            return self.push(kind, StepState::Done);
        }
        let id = self.push(kind, StepState::Held);
        if self.recorded.unclaimed() > 0 {
            self.held.push(id);
        } else {
            self.announce_child(id);
        }
        id
    }

    /// Writes the start of a new child into the draft.
    pub(super) fn announce_child(&mut self, id: StepId) {
        let next = self.next_child;
        if let StepKind::Child { ordinal, call, .. } = &mut self.steps[id.0].kind {
            *ordinal = Some(next);
            self.draft.push(Transition::ChildOpened { ordinal: next, start: Box::new(call.start.clone()) });
        }
        self.next_child += 1;
        self.draft.unlocks(id);
        self.set(id, StepState::Done);
        if matches!(self.steps[id.0].kind, StepKind::Child { cancel: true, .. }) {
            self.cancel_child(id);
        }
    }

    /// The child's id, once the server has given it one.
    pub fn child_id(&self, child: StepId) -> Option<RunId> {
        match &self.steps[child.0].kind {
            StepKind::Child { run, .. } => *run,
            _ => None,
        }
    }

    /// The handler wants the child to end.
    pub fn cancel_child(&mut self, child: StepId) {
        let StepKind::Child { ordinal, run, cancel, .. } = &mut self.steps[child.0].kind else { return };
        *cancel = true;
        let (Some(ordinal), run) = (*ordinal, *run) else { return };
        if self.is_open() && !self.recorded.take_cancelled(ordinal) {
            self.draft.push(Transition::ChildCancelled { ordinal, run });
        }
    }

    /// A handler waits for an event or a child.
    pub fn open_wait(&mut self, call: WaitCall, now: Timestamp) -> StepId {
        self.last_call = Some(call.location);
        let WaitCall { target, timeout, .. } = call;
        let kind = |ordinal, due| StepKind::Wait { ordinal, target: target.clone(), timeout, due };
        if !self.is_open() {
            return self.push(kind(None, Timestamp::MAX), StepState::Done);
        }
        let Some(on) = self.wait_on(&target) else {
            // Its child is held back, and so is the wait.
            let id = self.push(kind(None, Timestamp::MAX), StepState::Held);
            self.held.push(id);
            return id;
        };
        let Some(wait) = self.recorded.take_wait(&on, timeout.is_some()) else {
            let id = self.push(kind(None, Timestamp::MAX), StepState::Done);
            self.announce_wait(id, now);
            return id;
        };
        let (due, state) = match wait.state {
            WaitState::Waiting { timeout_at } => {
                let due = timeout_at.unwrap_or(Timestamp::MAX);
                (due, StepState::Parked { due })
            }
            WaitState::TimedOut { timed_out_at } => (timed_out_at, StepState::Recorded(StepOutcome::TimedOut)),
            WaitState::Completed { event: Some(index) } => {
                let outcome = StepOutcome::Event { index, data: self.inbox.data(index) };
                (Timestamp::MAX, StepState::Recorded(outcome))
            }
            WaitState::Completed { event: None } => (Timestamp::MAX, StepState::Recorded(self.child_outcome(&on))),
            // The handler stopped waiting before anything came of it, and will again.
            WaitState::Dropped => (Timestamp::MAX, StepState::Done),
        };
        let id = self.push(kind(Some(wait.ordinal), due), state);
        if let Some(settled) = wait.settled {
            self.releasable.insert(settled, id);
        }
        id
    }

    /// What the wait is for in terms of the record; `None` for a child that has no ordinal yet.
    pub(super) fn wait_on(&self, target: &WaitTarget) -> Option<WaitOn> {
        match target {
            WaitTarget::Event(name) => Some(WaitOn::Event(name.clone())),
            WaitTarget::Child(step) => match &self.steps[step.0].kind {
                StepKind::Child { ordinal, .. } => ordinal.map(WaitOn::Child),
                _ => None,
            },
        }
    }

    /// Whether a child's end is known, and what it means.
    fn has_ended(&self, child: StepId) -> bool {
        match &self.steps[child.0].kind {
            StepKind::Child { ordinal: Some(ordinal), answered: true, .. } => self.inbox.ended(*ordinal).is_some(),
            _ => false,
        }
    }

    /// Whether an awaited child has ended whose start is not answered yet: with the answer its wait ends.
    pub(super) fn awaits_answer(&self) -> bool {
        self.in_flight.is_some()
            && self.waiting.iter().any(|id| match &self.steps[id.0].kind {
                StepKind::Wait { target: target @ WaitTarget::Child(_), .. } => {
                    matches!(self.wait_on(target), Some(WaitOn::Child(child)) if self.inbox.ended(child).is_some())
                }
                _ => false,
            })
    }

    fn child_outcome(&self, on: &WaitOn) -> StepOutcome {
        let ended = match on {
            WaitOn::Child(child) => self.inbox.ended(*child),
            WaitOn::Event(_) => None,
        };
        StepOutcome::ChildEnded(Box::new(ended.cloned().unwrap_or(RunState::Cancelled { explanation: None })))
    }

    /// Writes the beginning of a new wait into the draft.
    pub(super) fn announce_wait(&mut self, id: StepId, now: Timestamp) {
        let StepKind::Wait { target, timeout, .. } = &self.steps[id.0].kind else { return };
        let (target, timeout) = (target.clone(), *timeout);
        let Some(on) = self.wait_on(&target) else { return };
        let run = match target {
            WaitTarget::Child(child) => self.child_id(child),
            WaitTarget::Event(_) => None,
        };
        let next = self.next_wait;
        self.next_wait += 1;
        self.draft.push(Transition::WaitOpened { ordinal: next, on, run, timeout });
        let until =
            timeout.map_or(Timestamp::MAX, |timeout| now.after(timeout.max(std::time::Duration::from_millis(1))));
        if let StepKind::Wait { ordinal, due, .. } = &mut self.steps[id.0].kind {
            (*ordinal, *due) = (Some(next), until);
        }
        self.set(id, StepState::Parked { due: until });
    }

    /// Further signals have reached the run: those behind the `after` that it had had before. A pass that
    /// has made up its last report takes no more: the report has to say what was known to it.
    pub fn deliver(&mut self, after: u32, signals: Vec<Signal>) {
        if self.is_open() {
            self.inbox.deliver(after, signals);
        }
    }

    /// How many signals of the run are known here.
    pub fn known_signals(&self) -> u32 {
        self.inbox.known()
    }

    /// Whether a signal could move the handler while it stays here.
    pub fn awaits_signals(&self) -> bool {
        self.phase == Phase::Live && !self.waiting.is_empty()
    }

    /// Moves a wait whose event or child is there, the one that began first.
    pub(super) fn match_signals(&mut self) -> bool {
        let ready = self.waiting.iter().copied().find(|id| match &self.steps[id.0].kind {
            StepKind::Wait { target: WaitTarget::Event(name), .. } => self.inbox.has_event(name),
            StepKind::Wait { target: WaitTarget::Child(child), .. } => self.has_ended(*child),
            _ => false,
        });
        if let Some(id) = ready {
            self.set(id, StepState::Due);
            self.woken.push(id);
        }
        ready.is_some()
    }

    /// The handler looks at a step whose time, event or child has come. `None`: another wait took the
    /// event, and this one goes on.
    pub(super) fn look(&mut self, id: StepId) -> Option<StepOutcome> {
        let (target, due) = match &self.steps[id.0].kind {
            StepKind::Wait { target, due, .. } => (target.clone(), *due),
            _ => return Some(StepOutcome::Slept { early: false }),
        };
        match &target {
            WaitTarget::Event(name) => {
                if let Some((index, data)) = self.inbox.take_event(name) {
                    return Some(StepOutcome::Event { index, data });
                }
            }
            WaitTarget::Child(child) => {
                let on = self.wait_on(&target)?;
                if self.has_ended(*child) {
                    return Some(self.child_outcome(&on));
                }
            }
        }
        if matches!(self.steps[id.0].state, StepState::Expired) {
            return Some(StepOutcome::TimedOut);
        }
        self.set(id, StepState::Parked { due });
        None
    }

    /// The handler begins again as new, with this input.
    pub fn continue_as_new(&mut self, input: Result<Option<Payload>, PayloadError>) {
        if !self.is_open() || !self.settle_unawaited() {
            return;
        }
        let checked = input.and_then(|input| {
            Payload::check_size(input.as_ref(), self.config.payload_limit)?;
            Ok(input)
        });
        match checked {
            Ok(input) => {
                // An event that was on its way to a wait has not reached the handler: it goes along.
                for step in &self.steps {
                    if let (StepKind::Wait { .. }, StepState::Ended(outcome) | StepState::Settled(outcome)) =
                        (&step.kind, &step.state)
                        && let StepOutcome::Event { index, .. } = outcome
                    {
                        self.inbox.put_back(*index);
                    }
                }
                let events = self.inbox.take_left();
                self.draft.push(Transition::ContinuedAsNew { input, events });
                self.phase = Phase::Closing(Close::Continued);
            }
            Err(error) => self.fail(ErrorObject::from_error("WorkflowInputError", &error)),
        }
    }
}
