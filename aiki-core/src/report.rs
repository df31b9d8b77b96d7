//! What a worker tells the server about a run it owns.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::failure::ErrorObject;
use crate::hash::InputHash;
use crate::id::{RunId, TaskId};
use crate::payload::Payload;
use crate::retry::RetryStrategy;
use crate::run::FailureCause;
use crate::time::Timestamp;

/// One step forward in a run's life, as its worker tells it. Times are relative: the server's clock
/// makes them absolute.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "fields are named as in the contract; each variant says what they are for")]
pub enum Transition {
    /// A task is about to have its first attempt. Its id is the run's next task id.
    TaskOpened { id: TaskId, name: String, input_hash: InputHash, input: Option<Payload>, retry: Option<RetryStrategy> },
    /// A parked task is about to have another attempt.
    TaskRestarted { id: TaskId, attempts: u64 },
    /// A task failed and waits for `retry_in` on the server.
    TaskParked { id: TaskId, attempts: u64, error: ErrorObject, retry_in: Duration },
    /// A task ended with a result.
    TaskCompleted { id: TaskId, attempts: u64, output: Option<Payload> },
    /// A task failed for good.
    TaskFailed { id: TaskId, attempts: u64, error: ErrorObject },
    /// A sleep begins: the run's next one by `ordinal`, counted from 0.
    SleepOpened { ordinal: u32, name: String, duration: Duration },
    /// A sleep was waited out by the worker.
    SleepCompleted { ordinal: u32 },
    /// The handler stopped waiting for a sleep: it is over before its time.
    SleepDropped { ordinal: u32 },
    /// The handler read the time and was told this.
    TimeRead { time: Timestamp },
    /// Nothing can go on before a parked step is due: the worker gives the run back.
    Suspended,
    /// The handler returned.
    Completed { output: Option<Payload> },
    /// The handler failed and no retry of the run is left.
    Failed { cause: FailureCause },
    /// The handler failed; the run is tried again after `retry_in`.
    RetryScheduled { cause: FailureCause, retry_in: Duration },
}

impl Transition {
    /// Whether the worker's claim ends with this transition.
    pub fn ends_claim(&self) -> bool {
        matches!(
            self,
            Transition::Suspended
                | Transition::Completed { .. }
                | Transition::Failed { .. }
                | Transition::RetryScheduled { .. }
        )
    }
}

/// All that one poll of a handler brought forward, written by the server as one.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The run.
    pub run: RunId,
    /// The claim under which the worker writes.
    pub epoch: u64,
    /// The report's number within its epoch, from 1. A report that is sent again under the same
    /// number gets the same answer and changes nothing.
    pub seq: u64,
    /// What happened, in order.
    pub transitions: Vec<Transition>,
}

/// The server wrote the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportReceipt {
    /// The run's revision after the report.
    pub revision: u64,
}
