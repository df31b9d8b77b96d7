//! The machine itself. See the [module](super) for its two sides.

mod chance;
mod handler;
mod host;
mod task;
mod wait;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::Location;
use std::time::Duration;

use super::draft::Draft;
use super::inbox::Inbox;
use super::recorded::Recorded;
use super::step::{Step, StepId, StepKind, StepState};
use crate::id::RunId;
use crate::payload::DEFAULT_PAYLOAD_LIMIT;
use crate::report::Report;
use crate::retry::RetryStrategy;
use crate::run::RunRecord;
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
    /// The handler begins again as new.
    Continued,
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
    inbox: Inbox,
    steps: Vec<Step>,
    /// Recorded outcomes that the handler has asked for, by their place in the settle order.
    releasable: BTreeMap<u64, StepId>,
    /// Steps that ended here and whose turn has not come.
    ended: VecDeque<StepId>,
    held: Vec<StepId>,
    /// Parked steps that the handler has dropped since it last came to rest.
    dropped: BTreeSet<StepId>,
    timers: BTreeSet<(Timestamp, StepId)>,
    /// When an attempt under way has to be looked at.
    attempts_due: BTreeSet<(Timestamp, StepId)>,
    /// Parked waits: something that arrives may end them.
    waiting: BTreeSet<StepId>,
    /// Steps whose state changed in a way that their future should look at.
    woken: Vec<StepId>,
    draft: Draft,
    in_flight: Option<Vec<StepId>>,
    seq: u64,
    next_task: u32,
    next_sleep: u32,
    next_wait: u32,
    next_child: u32,
    deadline: Option<Timestamp>,
    /// Steps that keep the run from being suspended.
    busy: usize,
    parked: usize,
    seen: Option<u64>,
    silent: bool,
    /// The handler has come to rest since it was given the last outcome. Only then it is given the
    /// next one, live as in replay, so that it cannot tell the two apart.
    at_rest: bool,
    /// Bodies that were under way on record have not been started again yet.
    interrupted: bool,
    /// Polls of the handler since it last came to rest.
    restless: u32,
    drawn: u64,
    last_call: Option<&'static Location<'static>>,
}

impl RunMachine {
    /// A machine for the run in `record`, claimed under `epoch`. `retry` is what the code says; the
    /// options stored with the run go before it.
    pub fn new(mut record: RunRecord, epoch: u64, retry: &RetryStrategy, config: MachineConfig) -> Self {
        let next = record.ordinals;
        let stored = record.options.as_ref().and_then(|options| options.retry.clone());
        Self {
            run: record.id,
            epoch,
            attempts: record.attempts,
            retry: stored.unwrap_or_else(|| retry.clone()),
            config,
            phase: Phase::Replaying,
            deadline: record.deadline,
            // The inbox looks at the waits and children, which the record then gives away.
            inbox: Inbox::new(&mut record),
            recorded: Recorded::new(&mut record),
            steps: Vec::new(),
            releasable: BTreeMap::new(),
            ended: VecDeque::new(),
            held: Vec::new(),
            dropped: BTreeSet::new(),
            timers: BTreeSet::new(),
            attempts_due: BTreeSet::new(),
            waiting: BTreeSet::new(),
            woken: Vec::new(),
            draft: Draft::default(),
            in_flight: None,
            seq: 0,
            next_task: next.tasks,
            next_sleep: next.sleeps,
            next_wait: next.waits,
            next_child: next.children,
            busy: 0,
            parked: 0,
            silent: record.seen.is_some(),
            seen: record.seen,
            at_rest: false,
            interrupted: true,
            restless: 0,
            drawn: 0,
            last_call: None,
        }
    }

    fn push(&mut self, kind: StepKind, state: StepState) -> StepId {
        let id = StepId(self.steps.len());
        self.steps.push(Step { kind, state: StepState::Done });
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
            | StepState::Expired
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
        if matches!((state, &self.steps[id.0].kind), (StepState::Parked { .. }, StepKind::Wait { .. })) {
            if entering {
                self.waiting.insert(id);
            } else {
                self.waiting.remove(&id);
            }
        }
    }

    fn due_within(&self, now: Timestamp, wait: Duration) -> bool {
        self.timers.first().is_some_and(|(due, _)| *due <= now.after(wait))
    }
}
