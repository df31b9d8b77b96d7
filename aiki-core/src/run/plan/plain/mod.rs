//! What workers and clients of the plain contract do, one transition at a time (contract, sections 3
//! and 4). They know of no epochs: the run's revision is their fence. Of their parked steps there is
//! one at a time, and it ends when what it waits for comes, not when the worker has seen it.

mod child;
mod claim;
mod run;
mod task;

use std::time::Duration;

use crate::failure::ErrorObject;
use crate::hash::InputHash;
use crate::id::{RunId, TaskId};
use crate::name::Name;
use crate::payload::Payload;
use crate::retry::RetryStrategy;
use crate::run::state::{FailureCause, RunState};
use crate::run::status::{QueuedReason, RunStatus, ScheduledReason};
use crate::run::transition::IllegalTransition;

pub use child::{adopt_plainly, judge_parent};
pub use claim::{claim_plainly, refresh_plainly};
pub use run::{Awaited, event_again, place_of, transition_run};
pub use task::{TransitionedTask, transition_task};

/// Who holds a run that was claimed by the plain contract: its workers have no names.
pub fn plain_owner() -> Name {
    Name::new("plain-contract")
}

/// How long a plain claim lasts unless it is refreshed (contract, section 7.2).
pub const PLAIN_LEASE: Duration = Duration::from_secs(90);

/// Where a run is to go. Times are relative to the server's clock.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the fields are named as in the contract; RunStatus documents the states")]
pub enum PlainState {
    Scheduled { reason: ScheduledReason, delay: Duration },
    Queued { reason: QueuedReason },
    Running,
    Paused,
    Stalled,
    Sleeping { name: String, duration: Duration },
    AwaitingEvent { event: String, timeout: Option<Duration> },
    AwaitingRetry { cause: FailureCause, retry_in: Duration },
    AwaitingChild { child: RunId, awaited: RunStatus, timeout: Option<Duration> },
    Cancelled { explanation: Option<String> },
    Completed { output: Option<Payload> },
    Failed { cause: FailureCause },
}

/// A request to move a run.
#[derive(Clone, Debug, PartialEq)]
pub struct TransitionRun {
    /// The run.
    pub run: RunId,
    /// The revision at which the caller saw it; `None`: whichever (the contract's pessimistic kind).
    pub expected_revision: Option<u64>,
    /// Where it is to go.
    pub to: PlainState,
}

/// A run after a transition.
#[derive(Clone, Debug, PartialEq)]
pub struct TransitionedRun {
    /// Its revision.
    pub revision: u64,
    /// Its state. The server may have moved it further since.
    pub state: RunState,
    /// Attempts of the run, the first included.
    pub attempts: u64,
}

/// A request to move a task.
#[derive(Clone, Debug, PartialEq)]
pub struct TransitionTask {
    /// The run.
    pub run: RunId,
    /// The revision at which the caller saw it.
    pub expected_revision: u64,
    /// What becomes of the task.
    pub change: TaskChange,
}

/// What becomes of a task. `attempts` is taken as it is given.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the fields are named as in the contract; each variant says what it is for")]
pub enum TaskChange {
    /// It is opened and its first attempt begins.
    Create { name: String, input: Option<Payload>, input_hash: InputHash, retry: Option<RetryStrategy> },
    /// Another attempt begins.
    Retry { id: TaskId, attempts: u64 },
    /// It ended with a result.
    Complete { id: TaskId, attempts: u64, output: Option<Payload> },
    /// It ended with an error.
    Fail { id: TaskId, attempts: u64, error: ErrorObject },
    /// It failed and waits for its next attempt.
    Park { id: TaskId, attempts: u64, error: ErrorObject, retry_in: Duration },
}

/// Why a plain request was not carried out. They are looked at in this order.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlainError {
    /// The run cannot go there from where it is.
    #[error(transparent)]
    Illegal(#[from] IllegalTransition),
    /// The run has moved on since the caller saw it.
    #[error("the run has revision {actual}, not {expected}: read it again")]
    Revision {
        /// What the caller expected.
        expected: u64,
        /// What it is.
        actual: u64,
    },
    /// The run has no such task.
    #[error("the run has no task {0}")]
    TaskNotFound(TaskId),
    /// The task, or the parent, cannot do that where it stands.
    #[error("{0}")]
    Refused(String),
}
