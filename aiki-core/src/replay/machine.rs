//! The machine itself. See the [module](super) for its two sides.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::Location;
use std::time::Duration;

use super::divergence;
use super::draft::Draft;
use super::recorded::Recorded;
use super::step::{Step, StepId, StepKind, StepOutcome, StepPoll, StepState, TaskCall};
use crate::failure::{ErrorObject, FailedTask, Failure, RetryHint};
use crate::id::{RunId, TaskId};
use crate::payload::{DEFAULT_PAYLOAD_LIMIT, Payload};
use crate::report::{Report, Transition};
use crate::retry::RetryStrategy;
use crate::run::{FailureCause, RunRecord, SleepState, TaskState};
use crate::time::Timestamp;

/// A handler that is still awake after so many polls counts as at rest: a body that wakes itself
/// without end must not hold up its siblings.
const RESTLESS_POLLS: u32 = 64;

/// Settings of a machine.
#[derive(Clone, Copy, Debug)]
pub struct MachineConfig {
    /// Waits up to this long stay in the process; longer ones give the run back to the server.
    pub inline_wait: Duration,
    /// The largest input or output of a task, and output of the run, in bytes.
    pub payload_limit: usize,
}

impl Default for MachineConfig {
    fn default() -> Self {
        Self { inline_wait: Duration::from_millis(10), payload_limit: DEFAULT_PAYLOAD_LIMIT }
    }
}

/// What the host has to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send this report and answer with [`accepted`](RunMachine::accepted) or
    /// [`rejected`](RunMachine::rejected). There is never more than one under way.
    Report(Report),
    /// The pass is over: drop the handler's future.
    Close(Close),
}

/// How a pass ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// The run waits on the server.
    Suspended,
    /// The run completed.
    Completed,
    /// The run failed for good.
    Failed,
    /// The run failed and will be tried again.
    Retrying,
    /// The claim was lost; whatever was under way is void.
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Recorded outcomes are being handed out.
    Replaying,
    /// New steps happen.
    Live,
    /// The last report is written or under way; the handler is not polled again.
    Closing(Close),
    /// Nothing comes out any more.
    Closed,
}

/// The replay machine of one pass over one run.
#[derive(Debug)]
pub struct RunMachine {
    run: RunId,
    epoch: u64,
    attempts: u64,
    retry: RetryStrategy,
    config: MachineConfig,
    phase: Phase,
    recorded: Recorded,
    steps: Vec<Step>,
    /// Recorded outcomes that the handler has asked for, by their place in the settle order.
    releasable: BTreeMap<u64, StepId>,
    /// Steps that ended here and whose turn has not come.
    ended: VecDeque<StepId>,
    held: Vec<StepId>,
    /// Parked steps that the handler has dropped since it last came to rest.
    dropped: BTreeSet<StepId>,
    timers: BTreeSet<(Timestamp, StepId)>,
    /// Steps whose state changed in a way that their future should look at.
    woken: Vec<StepId>,
    draft: Draft,
    in_flight: Option<Vec<StepId>>,
    seq: u64,
    next_task: u32,
    next_sleep: u32,
    /// Steps that keep the run from being suspended.
    busy: usize,
    parked: usize,
    seen: Option<u64>,
    silent: bool,
    /// The handler has come to rest since it was given the last outcome. Only then it is given the
    /// next one, live as in replay, so that it cannot tell the two apart.
    at_rest: bool,
    /// Polls of the handler since it last came to rest.
    restless: u32,
    drawn: u64,
    last_call: Option<&'static Location<'static>>,
}

impl RunMachine {
    /// A machine for the run in `record`, claimed under `epoch`. `retry` is what the code says; the
    /// options stored with the run go before it.
    pub fn new(mut record: RunRecord, epoch: u64, retry: &RetryStrategy, config: MachineConfig) -> Self {
        let next_task = record.tasks.len() as u32;
        let next_sleep = record.sleeps.len() as u32;
        let stored = record.options.as_ref().and_then(|options| options.retry.clone());
        Self {
            run: record.id,
            epoch,
            attempts: record.attempts,
            retry: stored.unwrap_or_else(|| retry.clone()),
            config,
            phase: Phase::Replaying,
            recorded: Recorded::new(&mut record),
            steps: Vec::new(),
            releasable: BTreeMap::new(),
            ended: VecDeque::new(),
            held: Vec::new(),
            dropped: BTreeSet::new(),
            timers: BTreeSet::new(),
            woken: Vec::new(),
            draft: Draft::default(),
            in_flight: None,
            seq: 0,
            next_task,
            next_sleep,
            busy: 0,
            parked: 0,
            silent: record.seen.is_some(),
            seen: record.seen,
            at_rest: false,
            restless: 0,
            drawn: 0,
            last_call: None,
        }
    }

    // ---- the user's side ----

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
        let location = call.location;
        let id = self.push(StepKind::Task { id: Some(task.id), call, attempts }, state, location);
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
        let location = call.location;
        let id = self.push(StepKind::Task { id: None, call, attempts: 1 }, StepState::Held, location);
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
    fn announce_task(&mut self, id: StepId) {
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
            return self.push(StepKind::Sleep { ordinal: 0 }, StepState::Done, location);
        }
        if let Some((ordinal, sleep)) = self.recorded.take_sleep(name) {
            let state = match sleep.state {
                SleepState::Sleeping { wakeup_at } => StepState::Parked { due: wakeup_at },
                SleepState::Completed { .. } => StepState::Recorded(StepOutcome::Slept { early: false }),
                SleepState::Cancelled { .. } => StepState::Recorded(StepOutcome::Slept { early: true }),
            };
            let id = self.push(StepKind::Sleep { ordinal }, state, location);
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
        self.push(StepKind::Sleep { ordinal }, StepState::Parked { due: now.after(duration) }, location)
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
    fn hand_out(&mut self, id: StepId, outcome: StepOutcome) {
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
    fn announce_dropped(&mut self) {
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

    // ---- the host's side ----

    /// Lets everything whose time has come go on.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        if self.phase != Phase::Live {
            return;
        }
        while let Some((due, id)) = self.timers.first().copied().filter(|(due, _)| *due <= now) {
            self.timers.remove(&(due, id));
            let step = &mut self.steps[id.0];
            match (&step.state, &mut step.kind) {
                (StepState::Backoff { .. }, _) => self.set(id, StepState::Executable),
                (StepState::Parked { .. }, StepKind::Sleep { .. }) => self.set(id, StepState::Due),
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
        let replayed = self.phase == Phase::Replaying;
        self.phase = Phase::Live;
        if !self.settle_held() {
            return false;
        }
        // What is due by now comes before a body that only now starts again.
        self.handle_timeout(now);
        if replayed {
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
        if self.busy == 0 && self.parked > 0 && !self.due_within(now, self.config.inline_wait) {
            // Nor for recorded tasks that today's code no longer asks for.
            for (task, attempts) in self.recorded.unpark() {
                self.draft.push(Transition::TaskRestarted { id: task, attempts });
            }
            self.draft.push(Transition::Suspended);
            self.phase = Phase::Closing(Close::Suspended);
        }
        false
    }

    /// New tasks that were held back either go ahead or are a divergence. No recorded outcome is left
    /// to release here, so nothing can still ask for a recorded task that is unclaimed: a task that
    /// follows an unsettled one is never on record.
    fn settle_held(&mut self) -> bool {
        if self.held.is_empty() {
            return true;
        }
        let held = std::mem::take(&mut self.held);
        if self.recorded.unclaimed() == 0 {
            for id in held {
                self.announce_task(id);
            }
            return true;
        }
        if let StepKind::Task { call, .. } = &self.steps[held[0].0].kind {
            let error = divergence::explain(call, &self.recorded);
            self.fail(error);
        }
        false
    }

    /// The handler returned.
    pub fn finish_run(&mut self, result: Result<Option<Payload>, Failure>) {
        if !self.is_open() {
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
        let error = failure.into_object();
        let cause = match task {
            Some(task) => FailureCause::Task(task, Some(error)),
            None => FailureCause::Own(error),
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
        Some(Action::Report(Report { run: self.run, epoch: self.epoch, seq: self.seq, transitions }))
    }

    /// The report under way was written.
    pub fn accepted(&mut self) {
        for id in self.in_flight.take().into_iter().flatten() {
            if matches!(self.steps[id.0].state, StepState::Waiting) {
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
            Phase::Live => self.timers.first().map(|(due, _)| *due),
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

    /// Whether the handler should still be polled.
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Replaying | Phase::Live)
    }

    /// Whether the handler waits for something that is not durable: it is pending, and no step of
    /// its own could move it.
    pub fn is_stuck(&self) -> bool {
        self.phase == Phase::Live && self.busy == 0 && self.parked == 0 && self.in_flight.is_none()
    }

    /// Where the handler made its last durable call.
    pub fn last_call(&self) -> Option<&'static Location<'static>> {
        self.last_call
    }

    /// Where the given step was called.
    pub fn location(&self, id: StepId) -> &'static Location<'static> {
        self.steps[id.0].location
    }

    /// The largest payload, in bytes.
    pub fn payload_limit(&self) -> usize {
        self.config.payload_limit
    }

    /// The id of the task behind a step, once it has one.
    pub fn task_id(&self, id: StepId) -> Option<TaskId> {
        match &self.steps[id.0].kind {
            StepKind::Task { id, .. } => *id,
            StepKind::Sleep { .. } => None,
        }
    }

    // ---- bookkeeping ----

    fn push(&mut self, kind: StepKind, state: StepState, location: &'static Location<'static>) -> StepId {
        let id = StepId(self.steps.len());
        self.steps.push(Step { kind, state: StepState::Done, location });
        self.set(id, state);
        id
    }

    /// Moves a step to a state and keeps the counters and timers true.
    fn set(&mut self, id: StepId, state: StepState) {
        let old = std::mem::replace(&mut self.steps[id.0].state, state);
        self.count(id, &old, false);
        let new = std::mem::replace(&mut self.steps[id.0].state, StepState::Done);
        self.count(id, &new, true);
        self.steps[id.0].state = new;
    }

    fn count(&mut self, id: StepId, state: &StepState, entering: bool) {
        let counter = match state {
            StepState::Held | StepState::Waiting | StepState::Backoff { .. } | StepState::Executing => &mut self.busy,
            StepState::Parked { .. } => &mut self.parked,
            // What the handler could move on by looking at it, but does not, keeps nobody waiting.
            StepState::Recorded(_)
            | StepState::Interrupted
            | StepState::Executable
            | StepState::Due
            | StepState::Ended(_)
            | StepState::Settled(_)
            | StepState::Done => return,
        };
        *counter = if entering { *counter + 1 } else { counter.saturating_sub(1) };
        if let StepState::Parked { due } | StepState::Backoff { due } = state {
            if entering {
                self.timers.insert((*due, id));
            } else {
                self.timers.remove(&(*due, id));
            }
        }
    }

    fn due_within(&self, now: Timestamp, wait: Duration) -> bool {
        self.timers.first().is_some_and(|(due, _)| *due <= now.after(wait))
    }
}

/// The delay before the next attempt; `None` when there is none.
fn next_delay(retry: &RetryStrategy, attempts: u64, failure: &Failure, chance: f64) -> Option<Duration> {
    let delay = retry.delay_after(attempts, chance)?;
    match failure.retry() {
        RetryHint::Never => None,
        RetryHint::ByStrategy => Some(delay),
        RetryHint::After(at_least) => Some(delay.max(at_least)),
    }
}

/// SplitMix64 over a seed and a counter: the same numbers in every pass, on every machine.
fn mix(seed: u128, counter: u64) -> u64 {
    let mut z = (seed as u64) ^ ((seed >> 64) as u64).rotate_left(32);
    z = z.wrapping_add(counter.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A number in `[0, 1)`.
fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1u64 << 53) as f64
}
