//! Tasks: opening them, their attempts and their ends.

use super::chance::{mix, next_delay, unit};
use super::{Phase, RunMachine};
use crate::failure::{FailedTask, Failure};
use crate::payload::Payload;
use crate::replay::attempt::{Attempt, AttemptDue};
use crate::replay::step::{StepId, StepKind, StepOutcome, StepPoll, StepState, TaskCall};
use crate::report::Transition;
use crate::retry::RetryStrategy;
use crate::run::TaskState;
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
        let (checkpoint, attempt) = (task.checkpoint, Box::default());
        let id = self.push(StepKind::Task { id: Some(task.id), call, attempts, checkpoint, attempt }, state);
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
        let kind = StepKind::Task { id: None, call, attempts: 1, checkpoint: None, attempt: Box::default() };
        let id = self.push(kind, StepState::Held);
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

    /// The body of a task begins: its time runs from now.
    pub fn begin_attempt(&mut self, step: StepId, now: Timestamp) {
        self.forget_attempt(step);
        let deadline = self.deadline;
        if let StepKind::Task { call, attempt, .. } = &mut self.steps[step.0].kind {
            **attempt = Attempt::begin(call.limits, deadline, now).paced_as(attempt);
            self.attempts_due.extend(attempt.due().map(|due| (due, step)));
        }
    }

    /// The body of a task gave a heartbeat, with a checkpoint or without.
    pub fn heartbeat(&mut self, step: StepId, progress: Option<Payload>, now: Timestamp) {
        if !self.is_open() {
            return;
        }
        self.forget_attempt(step);
        let StepKind::Task { id: Some(id), call, checkpoint, attempt, .. } = &mut self.steps[step.0].kind else {
            return;
        };
        let sent = attempt.beat(call.limits, progress.is_some(), now);
        if let Some(progress) = progress {
            if sent {
                self.draft.push(Transition::TaskProgressed { id: *id, checkpoint: progress.clone() });
            }
            *checkpoint = Some(progress);
        }
        self.attempts_due.extend(attempt.due().map(|due| (due, step)));
    }

    /// Attempts that have to be looked at by now.
    pub(super) fn handle_attempts(&mut self, now: Timestamp) {
        while let Some((due, step)) = self.attempts_due.first().copied().filter(|(due, _)| *due <= now) {
            self.attempts_due.remove(&(due, step));
            let StepKind::Task { id: Some(id), checkpoint, attempt, .. } = &mut self.steps[step.0].kind else {
                continue;
            };
            match attempt.take_due(now) {
                Some(AttemptDue::Overdue | AttemptDue::Abandoned) => self.woken.push(step),
                Some(AttemptDue::Flush) => {
                    if let Some(checkpoint) = checkpoint.clone() {
                        self.draft.push(Transition::TaskProgressed { id: *id, checkpoint });
                    }
                }
                None => {}
            }
            self.attempts_due.extend(attempt.due().map(|due| (due, step)));
        }
    }

    /// What a body that is still running is told.
    pub(super) fn poll_attempt(&mut self, step: StepId) -> StepPoll {
        let StepKind::Task { attempt, .. } = &mut self.steps[step.0].kind else { return StepPoll::Pending };
        match attempt.broken() {
            Some(limit) if attempt.is_abandoned() => StepPoll::Abandoned(limit),
            Some(limit) if attempt.tell() => StepPoll::Overdue(limit),
            _ => StepPoll::Pending,
        }
    }

    pub(super) fn forget_attempt(&mut self, step: StepId) {
        if let StepKind::Task { attempt, .. } = &self.steps[step.0].kind
            && let Some(due) = attempt.due()
        {
            self.attempts_due.remove(&(due, step));
        }
    }

    /// A task's body ended. Afterwards [`poll_step`](Self::poll_step) says how it goes on: with the
    /// outcome, or later with another attempt.
    pub fn finish_task(&mut self, step: StepId, result: Result<Option<Payload>, Failure>, now: Timestamp) {
        self.forget_attempt(step);
        // Nothing follows the last word of a pass, which another branch of the handler may just have said.
        if !self.is_open() {
            self.set(step, StepState::Done);
            return;
        }
        let StepKind::Task { id: Some(id), call, attempts, checkpoint, attempt } = &mut self.steps[step.0].kind else {
            return;
        };
        let (id, made) = (*id, *attempts);
        // What an overdue body returns comes too late.
        let result = attempt.broken().map_or(result, |limit| Err(Failure::from_object(limit.error())));
        let owed = checkpoint.clone().filter(|_| attempt.owes_checkpoint());
        attempt.end();
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
                self.attempts_due.extend(attempt.due().map(|due| (due, step)));
                self.set(step, StepState::Backoff { due: now.after(delay) });
            }
            Some(delay) => {
                **attempt = Attempt::default();
                if let Some(checkpoint) = owed {
                    self.draft.push(Transition::TaskProgressed { id, checkpoint });
                }
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
}
