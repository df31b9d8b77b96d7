//! The handler's side of the machine: what the futures of its steps call.

use std::panic::Location;
use std::time::Duration;

use super::chance::mix;
use super::{Phase, RunMachine};
use crate::replay::step::{StepId, StepKind, StepOutcome, StepPoll, StepState};
use crate::report::Transition;
use crate::run::{SleepState, TaskRecord, TaskState, WaitRecord, WaitState};
use crate::time::Timestamp;

impl RunMachine {
    /// A handler calls a sleep.
    pub fn open_sleep(
        &mut self,
        name: &str,
        duration: Duration,
        now: Timestamp,
        location: &'static Location<'static>,
    ) -> StepId {
        self.last_call = Some(location);
        if !self.is_open() {
            return self.push(StepKind::Sleep { ordinal: 0 }, StepState::Done);
        }
        if let Some((ordinal, sleep)) = self.recorded.take_sleep(name) {
            let state = match sleep.state {
                SleepState::Sleeping { wakeup_at } => StepState::Parked { due: wakeup_at },
                SleepState::Completed { .. } => StepState::Recorded(StepOutcome::Slept { early: false }),
                SleepState::Cancelled { .. } => StepState::Recorded(StepOutcome::Slept { early: true }),
            };
            let id = self.push(StepKind::Sleep { ordinal }, state);
            if let Some(settled) = sleep.settled {
                self.releasable.insert(settled, id);
            }
            return id;
        }
        // As the server counts: a sleep takes a millisecond at least.
        let duration = duration.max(Duration::from_millis(1));
        let ordinal = self.next_sleep;
        self.next_sleep += 1;
        self.draft.push(Transition::SleepOpened { ordinal, name: name.to_owned(), duration });
        self.push(StepKind::Sleep { ordinal }, StepState::Parked { due: now.after(duration) })
    }

    /// The handler reads the time: what it was told before, or `now`, which is then recorded.
    pub fn read_time(&mut self, now: Timestamp) -> Timestamp {
        self.recorded.take_time().unwrap_or_else(|| {
            if self.is_open() {
                self.draft.push(Transition::TimeRead { time: now });
            }
            now
        })
    }

    /// The handler draws chance: the n-th draw of a run is the same in every pass.
    pub fn draw(&mut self) -> u64 {
        self.drawn += 1;
        mix(self.run.to_bits(), self.drawn)
    }

    /// A step's future is polled.
    pub fn poll_step(&mut self, id: StepId) -> StepPoll {
        if matches!(self.phase, Phase::Closed | Phase::Closing(_)) {
            return StepPoll::Pending;
        }
        let step = &mut self.steps[id.0];
        match &step.state {
            StepState::Settled(_) => match std::mem::replace(&mut step.state, StepState::Done) {
                StepState::Settled(outcome) => StepPoll::Ready(outcome),
                _ => StepPoll::Pending,
            },
            // The settle order is the order in which the handler sees outcomes, so a sleep is over
            // when it is looked at, not when its time comes.
            StepState::Due | StepState::Expired => {
                let Some(outcome) = self.look(id) else { return StepPoll::Pending };
                if !self.end_step(id, outcome.clone()) {
                    return StepPoll::Pending;
                }
                self.steps[id.0].state = StepState::Done;
                StepPoll::Ready(outcome)
            }
            StepState::Executable => match &step.kind {
                StepKind::Task { id: Some(task), attempts, checkpoint, .. } => {
                    let poll = StepPoll::Execute { task: *task, attempt: *attempts, checkpoint: checkpoint.clone() };
                    self.set(id, StepState::Executing);
                    poll
                }
                _ => StepPoll::Pending,
            },
            StepState::Executing => self.poll_attempt(id),
            _ => StepPoll::Pending,
        }
    }

    /// A step ended here: its outcome is handed out at once when the handler is at rest, and in its
    /// turn otherwise. Answers whether it was handed out.
    pub(super) fn end_step(&mut self, id: StepId, outcome: StepOutcome) -> bool {
        let now = self.at_rest;
        if now {
            self.hand_out(id, outcome);
        } else {
            self.ended.push_back(id);
            self.set(id, StepState::Ended(outcome));
        }
        now
    }

    /// Writes down that a step ended and lets the handler see it.
    pub(super) fn hand_out(&mut self, id: StepId, outcome: StepOutcome) {
        let transition = match (&self.steps[id.0].kind, &outcome) {
            (StepKind::Task { id: Some(task), attempts, .. }, StepOutcome::Completed(output)) => {
                Transition::TaskCompleted { id: *task, attempts: *attempts, output: output.clone() }
            }
            (StepKind::Task { .. }, StepOutcome::Failed(error, task)) => {
                Transition::TaskFailed { id: task.id, attempts: task.attempts, error: error.clone() }
            }
            (StepKind::Sleep { ordinal }, _) => Transition::SleepCompleted { ordinal: *ordinal },
            (StepKind::Wait { ordinal: Some(ordinal), .. }, StepOutcome::TimedOut) => {
                Transition::WaitTimedOut { ordinal: *ordinal }
            }
            (StepKind::Wait { ordinal: Some(ordinal), .. }, outcome) => {
                let event = if let StepOutcome::Event { index, .. } = outcome { Some(*index) } else { None };
                Transition::WaitCompleted { ordinal: *ordinal, event }
            }
            (StepKind::Task { .. } | StepKind::Child { .. } | StepKind::Wait { .. }, _) => return,
        };
        self.draft.push(transition);
        self.set(id, StepState::Settled(outcome));
        self.at_rest = false;
    }

    /// The handler dropped a step's future before it ended.
    pub fn abandon(&mut self, id: StepId) {
        self.forget_attempt(id);
        match &self.steps[id.0].state {
            StepState::Held => self.held.retain(|held| *held != id),
            StepState::Recorded(_) if self.is_open() => self.give_back(id),
            StepState::Ended(StepOutcome::Event { index, .. }) => {
                // Somebody else may wait for it.
                self.inbox.put_back(*index);
                self.dropped.insert(id);
            }
            StepState::Parked { .. }
            | StepState::Due
            | StepState::Expired
            | StepState::Ended(StepOutcome::Slept { .. } | StepOutcome::ChildEnded(_) | StepOutcome::TimedOut)
                if self.is_open() =>
            {
                self.dropped.insert(id);
            }
            _ => {}
        }
        self.set(id, StepState::Done);
    }

    /// The handler dropped a recorded step before its outcome came to its turn. Within one attempt of the run it
    /// would have done so before there was an outcome; so the record is an earlier attempt's, of another call
    /// that asks for the same: that call, or the next like it, still gets it. An event would be lost otherwise,
    /// and a task that has its result would begin anew.
    fn give_back(&mut self, id: StepId) {
        let Some(settled) = self.releasable.iter().find_map(|(settled, step)| (*step == id).then_some(*settled)) else {
            return;
        };
        self.releasable.remove(&settled);
        let StepState::Recorded(outcome) = std::mem::replace(&mut self.steps[id.0].state, StepState::Done) else {
            return;
        };
        match (&self.steps[id.0].kind, outcome) {
            (StepKind::Wait { ordinal: Some(ordinal), target, due, .. }, outcome) => {
                let Some(on) = self.wait_on(target) else { return };
                let state = match outcome {
                    StepOutcome::TimedOut => WaitState::TimedOut { timed_out_at: *due },
                    StepOutcome::Event { index, .. } => WaitState::Completed { event: Some(index) },
                    _ => WaitState::Completed { event: None },
                };
                let (ordinal, settled) = (*ordinal, Some(settled));
                let (awaited, ended_at, discarded) = (None, None, false);
                self.recorded.give_back_wait(WaitRecord { ordinal, on, awaited, ended_at, state, settled, discarded });
            }
            (StepKind::Task { id: Some(task), call, attempts, checkpoint, .. }, outcome) => {
                let state = match outcome {
                    StepOutcome::Completed(output) => TaskState::Completed { attempts: *attempts, output },
                    StepOutcome::Failed(error, _) => TaskState::Failed { attempts: *attempts, error },
                    _ => return,
                };
                self.recorded.give_back_task(TaskRecord {
                    id: *task,
                    name: call.name.clone(),
                    input_hash: call.input_hash.clone(),
                    input: call.input.clone(),
                    retry: None,
                    state,
                    run_attempt: 0,
                    settled: Some(settled),
                    checkpoint: checkpoint.clone(),
                });
            }
            // A sleep costs time, and nothing else.
            _ => {}
        }
    }

    /// The server must not go on waking the run for steps that nobody waits for any more. A dropped
    /// sleep is over; a parked task that was dropped counts as under way, as every other task that is
    /// dropped before its end.
    pub(super) fn announce_dropped(&mut self) {
        while let Some(id) = self.dropped.pop_first() {
            match &self.steps[id.0].kind {
                StepKind::Sleep { ordinal } => self.draft.push(Transition::SleepDropped { ordinal: *ordinal }),
                StepKind::Task { id: Some(task), attempts, .. } => {
                    self.draft.push(Transition::TaskRestarted { id: *task, attempts: attempts + 1 });
                }
                StepKind::Wait { ordinal: Some(ordinal), .. } => {
                    self.draft.push(Transition::WaitDropped { ordinal: *ordinal });
                }
                StepKind::Task { .. } | StepKind::Child { .. } | StepKind::Wait { .. } => {}
            }
        }
    }
}
