//! One durable call of a handler and where it stands.

use std::panic::Location;

use std::time::Duration;

use super::attempt::{Attempt, TimeLimit};
use crate::failure::{ErrorObject, FailedTask};
use crate::hash::InputHash;
use crate::id::{RunId, TaskId};
use crate::payload::Payload;
use crate::report::ChildStart;
use crate::retry::RetryStrategy;
use crate::run::RunState;
use crate::time::Timestamp;

/// Names a step within one pass, in the order of the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepId(pub(super) usize);

impl StepId {
    /// The step's place in the order of the calls, from 0.
    pub fn index(self) -> usize {
        self.0
    }
}

/// A handler calls a task.
#[derive(Clone, Debug)]
pub struct TaskCall {
    /// The task's name.
    pub name: String,
    /// Its input.
    pub input: Option<Payload>,
    /// Hash of the input: with the name it is the task's address.
    pub input_hash: InputHash,
    /// How failed attempts are repeated.
    pub retry: RetryStrategy,
    /// How long an attempt may take.
    pub limits: TaskLimits,
    /// Where in the user's code.
    pub location: &'static Location<'static>,
}

/// How long an attempt of a task may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskLimits {
    /// From the start of the attempt to its end.
    pub start_to_close: Option<Duration>,
    /// From the start of the attempt, or from its last heartbeat, to the next heartbeat or its end.
    pub heartbeat: Option<Duration>,
}

/// A handler starts a child run.
#[derive(Clone, Debug)]
pub struct ChildCall {
    /// The child.
    pub start: ChildStart,
    /// Where in the user's code.
    pub location: &'static Location<'static>,
}

/// A handler waits for something.
#[derive(Clone, Debug)]
pub struct WaitCall {
    /// What it waits for.
    pub target: WaitTarget,
    /// How long it waits at most.
    pub timeout: Option<Duration>,
    /// Where in the user's code.
    pub location: &'static Location<'static>,
}

/// What a handler waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitTarget {
    /// The next event of this name.
    Event(String),
    /// The end of the child that this step started.
    Child(StepId),
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepOutcome {
    /// The task returned this.
    Completed(Option<Payload>),
    /// The task failed for good.
    Failed(ErrorObject, FailedTask),
    /// The sleep is over: in full, or cut short.
    Slept {
        /// Whether somebody woke the run up before the time.
        early: bool,
    },
    /// The event came.
    Event {
        /// Its place among the events of the run.
        index: u32,
        /// What it carries.
        data: Option<Payload>,
    },
    /// The child ended in this state.
    ChildEnded(Box<RunState>),
    /// The wait took too long.
    TimedOut,
}

/// The answer when a step is polled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepPoll {
    /// The step has ended.
    Ready(StepOutcome),
    /// Run the task's body now: call [`begin_attempt`](super::RunMachine::begin_attempt) when it begins
    /// and [`finish_task`](super::RunMachine::finish_task) when it has ended.
    Execute {
        /// The task.
        task: TaskId,
        /// The attempt, from 1.
        attempt: u64,
        /// How far an earlier attempt said that it got.
        checkpoint: Option<Payload>,
    },
    /// The attempt has taken too long: tell its body, and go on polling it for the moment.
    Overdue(TimeLimit),
    /// The attempt did not end after it was told: drop its body.
    Abandoned(TimeLimit),
    /// The host has to act first, or the step is parked, or the machine is closed.
    Pending,
}

#[derive(Debug)]
pub(super) struct Step {
    pub(super) kind: StepKind,
    pub(super) state: StepState,
}

#[derive(Debug)]
pub(super) enum StepKind {
    Task {
        id: Option<TaskId>,
        call: TaskCall,
        attempts: u64,
        checkpoint: Option<Payload>,
        attempt: Box<Attempt>,
    },
    Sleep {
        ordinal: u32,
    },
    Child {
        ordinal: Option<u32>,
        run: Option<RunId>,
        call: Box<ChildCall>,
        /// The handler asked for its end before it was announced.
        cancel: bool,
        /// The server has said whether it started. Before that, nothing can be made of its end.
        answered: bool,
    },
    Wait {
        ordinal: Option<u32>,
        target: WaitTarget,
        timeout: Option<Duration>,
        due: Timestamp,
    },
}

#[derive(Debug)]
pub(super) enum StepState {
    /// New, while recorded tasks are still unclaimed: may turn out to be a divergence.
    Held,
    /// Its transition is on its way to the server.
    Waiting,
    /// Settled in the record; released to the handler when its turn has come.
    Recorded(StepOutcome),
    /// Under way in the record: its body runs again once replay is over.
    Interrupted,
    /// Waits for its time, on the server or here.
    Parked { due: Timestamp },
    /// Waits here for its next attempt, which nobody else knows of.
    Backoff { due: Timestamp },
    /// A sleep whose time has come, or a wait whose event or child has; the handler has not looked yet.
    Due,
    /// A wait that took too long; the handler has not looked yet.
    Expired,
    /// Its body may run.
    Executable,
    /// Its body runs.
    Executing,
    /// Ended here while the handler was still busy with another outcome: handed out in its turn.
    Ended(StepOutcome),
    /// Ended and handed out; the handler has not looked yet.
    Settled(StepOutcome),
    /// The handler has the outcome, or dropped the step.
    Done,
}
