//! One durable call of a handler and where it stands.

use std::panic::Location;

use crate::failure::{ErrorObject, FailedTask};
use crate::hash::InputHash;
use crate::id::TaskId;
use crate::payload::Payload;
use crate::retry::RetryStrategy;
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
    /// Where in the user's code.
    pub location: &'static Location<'static>,
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
}

/// The answer when a step is polled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepPoll {
    /// The step has ended.
    Ready(StepOutcome),
    /// Run the task's body now, then call [`finish_task`](super::RunMachine::finish_task).
    Execute {
        /// The task.
        task: TaskId,
        /// The attempt, from 1.
        attempt: u64,
    },
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
    Task { id: Option<TaskId>, call: TaskCall, attempts: u64 },
    Sleep { ordinal: u32 },
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
    /// A sleep whose time has come; the handler has not looked yet.
    Due,
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
