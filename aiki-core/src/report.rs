//! What a worker tells the server about a run it owns.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::failure::ErrorObject;
use crate::hash::InputHash;
use crate::id::{RunId, TaskId};
use crate::name::WorkflowKey;
use crate::payload::{Payload, present};
use crate::rank::Priority;
use crate::retry::RetryStrategy;
use crate::run::{FailureCause, ReceivedEvent, Reference, RunOptions, WaitOn};
use crate::time::{Timestamp, millis, optional_millis};

/// One step forward in a run's life, as its worker tells it. Times are relative: the server's clock
/// makes them absolute.
///
/// On the wire it is an object with one key, the variant's name: that form keeps payloads as they are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
#[allow(missing_docs, reason = "fields are named as in the contract; each variant says what they are for")]
pub enum Transition {
    /// A task is about to have its first attempt. Its id is the run's next task id.
    TaskOpened {
        id: TaskId,
        name: String,
        input_hash: InputHash,
        #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
        input: Option<Payload>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry: Option<RetryStrategy>,
    },
    /// A parked task is about to have another attempt.
    TaskRestarted { id: TaskId, attempts: u64 },
    /// A task failed and waits for `retry_in` on the server.
    TaskParked {
        id: TaskId,
        attempts: u64,
        error: ErrorObject,
        #[serde(rename = "retryInMs", with = "millis")]
        retry_in: Duration,
    },
    /// A task ended with a result.
    TaskCompleted {
        id: TaskId,
        attempts: u64,
        #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
        output: Option<Payload>,
    },
    /// A task failed for good.
    TaskFailed { id: TaskId, attempts: u64, error: ErrorObject },
    /// A sleep begins: the run's next one by `ordinal`, counted from 0.
    SleepOpened {
        ordinal: u32,
        name: String,
        #[serde(rename = "durationMs", with = "millis")]
        duration: Duration,
    },
    /// A sleep was waited out by the worker.
    SleepCompleted { ordinal: u32 },
    /// The handler stopped waiting for a sleep: it is over before its time.
    SleepDropped { ordinal: u32 },
    /// The handler read the time and was told this.
    TimeRead { time: Timestamp },
    /// A task's body got so far. Kept until the task ends; the latest one counts.
    TaskProgressed { id: TaskId, checkpoint: Payload },
    /// A wait begins: the run's next one by `ordinal`, counted from 0. `run` is the child waited for,
    /// where the worker knows it already.
    WaitOpened {
        ordinal: u32,
        on: WaitOn,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        run: Option<RunId>,
        #[serde(default, rename = "timeoutMs", with = "optional_millis", skip_serializing_if = "Option::is_none")]
        timeout: Option<Duration>,
    },
    /// A wait is over: the handler has the event of this place among those received, or its child's end.
    WaitCompleted {
        ordinal: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        event: Option<u32>,
    },
    /// A wait took too long.
    WaitTimedOut { ordinal: u32 },
    /// The handler stopped waiting.
    WaitDropped { ordinal: u32 },
    /// A child run starts: the run's next one by `ordinal`, counted from 0. The server answers its id.
    ChildOpened { ordinal: u32, start: Box<ChildStart> },
    /// The child is to be cancelled, if it has not ended.
    ChildCancelled {
        ordinal: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        run: Option<RunId>,
    },
    /// Nothing can go on before a parked step may: the worker gives the run back.
    Suspended,
    /// The handler begins again with this input and an empty history. Events that nobody took go with
    /// it.
    ContinuedAsNew {
        #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
        input: Option<Payload>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        events: Vec<ReceivedEvent>,
    },
    /// The handler returned.
    Completed {
        #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
        output: Option<Payload>,
    },
    /// The handler failed and no retry of the run is left.
    Failed { cause: FailureCause },
    /// The handler failed; the run is tried again after `retry_in`.
    RetryScheduled {
        cause: FailureCause,
        #[serde(rename = "retryInMs", with = "millis")]
        retry_in: Duration,
    },
}

impl Transition {
    /// Whether the worker's claim ends with this transition.
    pub fn ends_claim(&self) -> bool {
        matches!(
            self,
            Transition::Suspended
                | Transition::ContinuedAsNew { .. }
                | Transition::Completed { .. }
                | Transition::Failed { .. }
                | Transition::RetryScheduled { .. }
        )
    }
}

/// What a handler says about a child that it starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChildStart {
    /// The code that the child executes.
    pub workflow: WorkflowKey,
    /// Its input.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub input: Option<Payload>,
    /// Hash of the input.
    pub input_hash: InputHash,
    /// The handler's own id for the child.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Reference>,
    /// Options that stay with the child.
    #[serde(default)]
    pub options: RunOptions,
    /// How urgent it is.
    #[serde(default)]
    pub priority: Priority,
    /// The child fails when it has not ended after this time, or when its parent's deadline is over.
    #[serde(default, rename = "timeLimitMs", with = "optional_millis", skip_serializing_if = "Option::is_none")]
    pub time_limit: Option<Duration>,
}

/// All that one poll of a handler brought forward, written by the server as one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The run.
    pub run: RunId,
    /// The claim under which the worker writes.
    pub epoch: u64,
    /// The report's number within its epoch, from 1. A report that is sent again under the same
    /// number gets the same answer and changes nothing.
    pub seq: u64,
    /// How many signals the worker knew of when it made the report. A run is not suspended over
    /// signals that its worker has not seen.
    pub signals: u32,
    /// What happened, in order.
    pub transitions: Vec<Transition>,
}

/// The server wrote the report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportReceipt {
    /// The run's revision after the report.
    pub revision: u64,
    /// How many signals have reached the run by now.
    pub signals: u32,
    /// The children that the report started, in order; `None` for one that was refused: how it ended
    /// is among the signals.
    pub children: Vec<Option<RunId>>,
}
