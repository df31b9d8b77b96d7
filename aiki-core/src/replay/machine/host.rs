//! The host's side of the machine: reports out, answers and time in.

use std::panic::Location;

use super::chance::{mix, next_delay, unit};
use super::{Action, Close, Phase, RESTLESS_POLLS, RunMachine};
use crate::failure::{ErrorObject, Failure};
use crate::id::TaskId;
use crate::payload::Payload;
use crate::replay::divergence;
use crate::replay::step::{StepId, StepKind, StepState};
use crate::report::{Report, ReportReceipt, Transition};
use crate::run::FailureCause;
use crate::time::Timestamp;

impl RunMachine {
    /// Lets everything whose time has come go on.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        if self.phase != Phase::Live {
            return;
        }
        self.handle_attempts(now);
        while let Some((due, id)) = self.timers.first().copied().filter(|(due, _)| *due <= now) {
            self.timers.remove(&(due, id));
            let step = &mut self.steps[id.0];
            match (&step.state, &mut step.kind) {
                (StepState::Backoff { .. }, _) => self.set(id, StepState::Executable),
                (StepState::Parked { .. }, StepKind::Sleep { .. }) => self.set(id, StepState::Due),
                (StepState::Parked { .. }, StepKind::Wait { .. }) => self.set(id, StepState::Expired),
                (StepState::Parked { .. }, StepKind::Task { id: Some(task), attempts, .. }) => {
                    *attempts += 1;
                    self.draft.push(Transition::TaskRestarted { id: *task, attempts: *attempts });
                    self.draft.unlocks(id);
                    self.set(id, StepState::Waiting);
                }
                _ => continue,
            }
            self.woken.push(id);
        }
    }

    /// The handler is about to be polled.
    pub fn begin_poll(&mut self) {
        self.restless = self.restless.saturating_add(1);
    }

    /// Whether the handler was polled so often without coming to rest that it counts as at rest.
    pub fn is_restless(&self) -> bool {
        self.restless >= RESTLESS_POLLS
    }

    /// The handler was polled, has not ended, and nothing in the process has woken it since.
    /// Decides what is next: hand out an outcome, go live, diverge, suspend, or wait.
    ///
    /// Answers whether a step was moved. When no future waits on that step, so that nothing was
    /// woken, call it again: each call moves a step that no later call moves, so that it ends.
    #[must_use = "a step that nobody waits on may have been moved: go on"]
    pub fn settle_poll(&mut self, now: Timestamp) -> bool {
        self.restless = 0;
        if !self.is_open() {
            return false;
        }
        self.announce_dropped();
        if let Some((settled, id)) = self.releasable.pop_first() {
            // What was once new does not become old again.
            self.silent &= self.seen.is_some_and(|seen| settled <= seen);
            if let StepState::Recorded(outcome) = std::mem::replace(&mut self.steps[id.0].state, StepState::Done) {
                self.steps[id.0].state = StepState::Settled(outcome);
                self.woken.push(id);
                self.at_rest = false;
            }
            return true;
        }
        if let Some(id) = self.ended.pop_front() {
            if let StepState::Ended(outcome) = std::mem::replace(&mut self.steps[id.0].state, StepState::Done) {
                self.hand_out(id, outcome);
                self.woken.push(id);
            }
            return true;
        }
        self.at_rest = true;
        self.silent = false;
        self.phase = Phase::Live;
        if !self.settle_held(now) {
            return false;
        }
        // What arrived comes before what is due by now: it may have come in time.
        if self.match_signals() {
            return true;
        }
        // What is due by now comes before a body that only now starts again.
        self.handle_timeout(now);
        if std::mem::take(&mut self.interrupted) {
            for (at, step) in self.steps.iter_mut().enumerate() {
                if matches!(step.state, StepState::Interrupted) {
                    step.state = StepState::Executable;
                    self.woken.push(StepId(at));
                }
            }
        }
        if !self.woken.is_empty() {
            return true;
        }
        let rests = self.busy == 0 && self.parked > 0 && !self.due_within(now, self.config.inline_wait);
        if rests && !self.awaits_answer() {
            // Nor for recorded tasks that today's code no longer asks for.
            for (task, attempts) in self.recorded.unpark() {
                self.draft.push(Transition::TaskRestarted { id: task, attempts });
            }
            for ordinal in self.recorded.drop_waits() {
                self.draft.push(Transition::WaitDropped { ordinal });
            }
            self.draft.push(Transition::Suspended);
            self.phase = Phase::Closing(Close::Suspended);
        }
        false
    }

    /// New tasks that were held back either go ahead or are a divergence. No recorded outcome is left
    /// to release here, so nothing can still ask for a recorded task that is unclaimed: a task that
    /// follows an unsettled one is never on record.
    fn settle_held(&mut self, now: Timestamp) -> bool {
        if self.held.is_empty() {
            return true;
        }
        let held = std::mem::take(&mut self.held);
        if self.recorded.unclaimed() == 0 {
            for id in held {
                match &self.steps[id.0].kind {
                    StepKind::Task { .. } => self.announce_task(id),
                    StepKind::Child { .. } => self.announce_child(id),
                    StepKind::Wait { .. } => self.announce_wait(id, now),
                    StepKind::Sleep { .. } => {}
                }
            }
            return true;
        }
        let error = held.iter().find_map(|id| match &self.steps[id.0].kind {
            StepKind::Task { call, .. } => Some(divergence::explain(call, &self.recorded)),
            StepKind::Child { call, .. } => Some(divergence::explain_child(call, &self.recorded)),
            _ => None,
        });
        error.into_iter().for_each(|error| self.fail(error));
        false
    }

    /// The handler is through. What it started and did not wait for starts now, or is a divergence: it
    /// must not be forgotten. Answers whether the handler may end.
    pub(super) fn settle_unawaited(&mut self) -> bool {
        self.held.retain(|id| matches!(self.steps[id.0].kind, StepKind::Child { .. }));
        // Only waits ask for the time.
        self.settle_held(Timestamp::EPOCH)
    }

    /// The handler returned.
    pub fn finish_run(&mut self, result: Result<Option<Payload>, Failure>) {
        if !self.is_open() || !self.settle_unawaited() {
            return;
        }
        self.announce_dropped();
        let failure = match result {
            Ok(output) => match Payload::check_size(output.as_ref(), self.config.payload_limit) {
                Ok(()) => {
                    self.draft.push(Transition::Completed { output });
                    self.phase = Phase::Closing(Close::Completed);
                    return;
                }
                Err(error) => Failure::from(error).never_retry(),
            },
            Err(failure) => failure,
        };
        let chance = unit(mix(self.run.to_bits(), u64::MAX - self.attempts));
        let delay = next_delay(&self.retry, self.attempts, &failure, chance);
        // A call that was refused before it became a task is the handler's own failure.
        let task = failure.task().filter(|task| task.attempts > 0).map(|task| task.id);
        let child = failure.child();
        let error = failure.into_object();
        let cause = match (task, child) {
            (Some(task), _) => FailureCause::Task(task, Some(error)),
            (None, Some(child)) => FailureCause::ChildWorkflow(child, Some(error)),
            (None, None) => FailureCause::Own(error),
        };
        match delay {
            Some(retry_in) => {
                self.draft.push(Transition::RetryScheduled { cause, retry_in });
                self.phase = Phase::Closing(Close::Retrying);
            }
            None => {
                self.draft.push(Transition::Failed { cause });
                self.phase = Phase::Closing(Close::Failed);
            }
        }
    }

    /// Fails the run for good, whatever its retry strategy says.
    pub fn fail(&mut self, error: ErrorObject) {
        if self.is_open() {
            self.draft.push(Transition::Failed { cause: FailureCause::Own(error) });
            self.phase = Phase::Closing(Close::Failed);
        }
    }

    /// What the host has to do next, if anything. What a handler does about an outcome leaves in the
    /// same report as the outcome: nothing leaves before it has come to rest.
    pub fn poll_action(&mut self) -> Option<Action> {
        if matches!(self.phase, Phase::Replaying | Phase::Closed) || self.in_flight.is_some() {
            return None;
        }
        if self.phase == Phase::Live && !self.at_rest {
            return None;
        }
        if self.draft.is_empty() {
            let Phase::Closing(close) = self.phase else { return None };
            self.phase = Phase::Closed;
            return Some(Action::Close(close));
        }
        self.seq += 1;
        let (transitions, unlocked) = self.draft.take_report();
        self.in_flight = Some(unlocked);
        let signals = self.inbox.known();
        Some(Action::Report(Report { run: self.run, epoch: self.epoch, seq: self.seq, signals, transitions }))
    }

    /// The report under way was written.
    pub fn accepted(&mut self, receipt: &ReportReceipt) {
        let mut children = receipt.children.iter();
        for id in self.in_flight.take().into_iter().flatten() {
            if let StepKind::Child { run, answered, .. } = &mut self.steps[id.0].kind {
                (*run, *answered) = (children.next().copied().flatten(), true);
                self.woken.push(id);
            } else if matches!(self.steps[id.0].state, StepState::Waiting) {
                self.set(id, StepState::Executable);
                self.woken.push(id);
            }
        }
    }

    /// The claim is gone: the pass ends in silence.
    pub fn rejected(&mut self) {
        self.in_flight = None;
        self.draft.clear();
        self.phase = Phase::Closed;
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Live => {
                let timer = self.timers.first().map(|(due, _)| *due).filter(|due| *due != Timestamp::MAX);
                let attempt = self.attempts_due.first().map(|(due, _)| *due);
                timer.into_iter().chain(attempt).min()
            }
            _ => None,
        }
    }

    /// The steps whose futures should be polled, since the last call.
    pub fn take_woken(&mut self) -> Vec<StepId> {
        std::mem::take(&mut self.woken)
    }

    /// Whether the next poll of the handler repeats what an earlier pass did: its logs are old news.
    pub fn is_silent(&self) -> bool {
        self.silent
    }

    /// The recorded tasks and children of the present attempt that the handler has not asked for, each kind in
    /// the order in which they began.
    pub fn not_asked_for(&self) -> (Vec<TaskId>, Vec<u32>) {
        let tasks = self.recorded.tasks_left().into_iter().map(|task| task.id).collect();
        (tasks, self.recorded.children_left().into_iter().map(|child| child.ordinal).collect())
    }

    /// Whether the handler should still be polled.
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Replaying | Phase::Live)
    }

    /// Whether the handler waits for something that is not durable: it is pending, and no step of
    /// its own could move it.
    pub fn is_stuck(&self) -> bool {
        self.phase == Phase::Live && self.busy == 0 && self.parked == 0 && self.in_flight.is_none()
    }

    /// Whether a body is under way here.
    pub fn executes(&self) -> bool {
        self.steps.iter().any(|step| matches!(step.state, StepState::Executing))
    }

    /// Where the handler made its last durable call.
    pub fn last_call(&self) -> Option<&'static Location<'static>> {
        self.last_call
    }

    /// The largest payload, in bytes.
    pub fn payload_limit(&self) -> usize {
        self.config.payload_limit
    }

    /// The id of the task behind a step, once it has one.
    pub fn task_id(&self, id: StepId) -> Option<TaskId> {
        match &self.steps[id.0].kind {
            StepKind::Task { id, .. } => *id,
            _ => None,
        }
    }
}
