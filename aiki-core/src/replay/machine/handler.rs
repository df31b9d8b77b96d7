//! The handler's side of the machine: what the futures of its steps call.

use std::panic::Location;
use std::time::Duration;

use super::chance::{mix, next_delay, unit};
use super::{Phase, RunMachine};
use crate::failure::{FailedTask, Failure};
use crate::payload::Payload;
use crate::replay::step::{StepId, StepKind, StepOutcome, StepPoll, StepState, TaskCall};
use crate::report::Transition;
use crate::retry::RetryStrategy;
use crate::run::{SleepState, TaskState};
use crate::time::Timestamp;

impl RunMachine {
    /// A handler calls a task. Calls claim their place when they are made, not when they are polled.
    pub fn open_task(&mut self, call: TaskCall) -> StepId {
        self.last_call = Some(call.location);
        let recorded = if self.is_open() { self.recorded.take_task(&call.name, &call.input_hash) } else { None };
        let Some(task) = recorded else { return self.open_new_task(call) };
        let attempts = task.state.attempts();
        let state = match task.state {
            TaskState::Completed { output, .. } => StepState::Recorded(StepOutcome::Completed(output)),
            TaskState::Failed { error, .. } => {
                let failed = FailedTask { id: task.id, name: call.name.as_str().into(), attempts };
                StepState::Recorded(StepOutcome::Failed(error, failed))
            }
            TaskState::Running { .. } => StepState::Interrupted,
            TaskState::AwaitingRetry { next_attempt_at, .. } => StepState::Parked { due: next_attempt_at },
            TaskState::Discarded { .. } => StepState::Done,
        };
        let id = self.push(StepKind::Task { id: Some(task.id), call, attempts }, state);
        if let Some(settled) = task.settled {
            self.releasable.insert(settled, id);
        }
        // A task that was under way when replay had ended already can run at once.
        if self.phase == Phase::Live && matches!(self.steps[id.0].state, StepState::Interrupted) {
            self.steps[id.0].state = StepState::Executable;
        }
        id
    }

    fn open_new_task(&mut self, call: TaskCall) -> StepId {
        let id = self.push(StepKind::Task { id: None, call, attempts: 1 }, StepState::Held);
        if !self.is_open() {
            self.set(id, StepState::Done);
        } else if self.recorded.unclaimed() > 0 {
            self.held.push(id);
        } else {
            self.announce_task(id);
        }
        id
    }

    /// Writes the opening of a new task into the draft.
    pub(super) fn announce_task(&mut self, id: StepId) {
        let next = self.run.task(self.next_task);
        if let StepKind::Task { id: task, call, .. } = &mut self.steps[id.0].kind {
            *task = Some(next);
            self.draft.push(Transition::TaskOpened {
                id: next,
                name: call.name.clone(),
                input_hash: call.input_hash.clone(),
                input: call.input.clone(),
                retry: (call.retry != RetryStrategy::Never).then(|| call.retry.clone()),
            });
        }
        self.next_task += 1;
        self.draft.unlocks(id);
        self.set(id, StepState::Waiting);
    }

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
            StepState::Due => {
                let outcome = StepOutcome::Slept { early: false };
                if !self.end_step(id, outcome.clone()) {
                    return StepPoll::Pending;
                }
                self.steps[id.0].state = StepState::Done;
                StepPoll::Ready(outcome)
            }
            StepState::Executable => match &step.kind {
                StepKind::Task { id: Some(task), attempts, .. } => {
                    let poll = StepPoll::Execute { task: *task, attempt: *attempts };
                    self.set(id, StepState::Executing);
                    poll
                }
                _ => StepPoll::Pending,
            },
            _ => StepPoll::Pending,
        }
    }

    /// A task's body ended. Afterwards [`poll_step`](Self::poll_step) says how it goes on: with the
    /// outcome, or later with another attempt.
    pub fn finish_task(&mut self, step: StepId, result: Result<Option<Payload>, Failure>, now: Timestamp) {
        let StepKind::Task { id: Some(id), call, attempts } = &mut self.steps[step.0].kind else { return };
        let (id, made) = (*id, *attempts);
        let failure = match result {
            Ok(output) => {
                self.end_step(step, StepOutcome::Completed(output));
                return;
            }
            Err(failure) => failure,
        };
        let chance = unit(mix(id.to_bits(), made));
        match next_delay(&call.retry, made, &failure, chance) {
            Some(delay) if delay <= self.config.inline_wait => {
                *attempts += 1;
                self.set(step, StepState::Backoff { due: now.after(delay) });
            }
            Some(delay) => {
                let error = failure.into_object();
                self.draft.push(Transition::TaskParked { id, attempts: made, error, retry_in: delay });
                self.set(step, StepState::Parked { due: now.after(delay) });
            }
            None => {
                let failed = FailedTask { id, name: call.name.as_str().into(), attempts: made };
                self.end_step(step, StepOutcome::Failed(failure.into_object(), failed));
            }
        }
    }

    /// A step ended here: its outcome is handed out at once when the handler is at rest, and in its
    /// turn otherwise. Answers whether it was handed out.
    fn end_step(&mut self, id: StepId, outcome: StepOutcome) -> bool {
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
            (StepKind::Task { .. }, _) => return,
        };
        self.draft.push(transition);
        self.set(id, StepState::Settled(outcome));
        self.at_rest = false;
    }

    /// The handler dropped a step's future before it ended.
    pub fn abandon(&mut self, id: StepId) {
        match &self.steps[id.0].state {
            StepState::Held => self.held.retain(|held| *held != id),
            StepState::Parked { .. } | StepState::Due | StepState::Ended(StepOutcome::Slept { .. })
                if self.is_open() =>
            {
                self.dropped.insert(id);
            }
            _ => {}
        }
        self.set(id, StepState::Done);
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
                StepKind::Task { .. } => {}
            }
        }
    }
}
