//! The history of a run: what happened, in order, packed as it is stored. A run's record is the
//! fold of its history; nothing else is kept of its tasks and sleeps.

mod wire;

use serde::{Deserialize, Serialize};

use super::state::RunState;
use super::status::RunStatus;
use super::wait::WaitOn;
use crate::failure::ErrorObject;
use crate::hash::InputHash;
use crate::id::RunId;
use crate::name::WorkflowKey;
use crate::payload::{Payload, present};
use crate::retry::RetryStrategy;
use crate::time::Timestamp;

pub use wire::{HistoryError, append, parse, parse_list};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryEntry {
    /// When, by the server's clock.
    pub at: Timestamp,
    /// What.
    pub entry: Entry,
}

/// What can happen to a run.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "fields are named as in the contract; each variant says what they are for")]
pub enum Entry {
    /// The run was created with this input.
    Created { input: Option<Payload> },
    /// The run moved to a state, in its `attempt`-th attempt.
    Run { attempt: u64, state: RunState },
    /// A task was opened; its first attempt may begin.
    TaskOpened {
        ordinal: u32,
        name: String,
        input_hash: InputHash,
        input: Option<Payload>,
        retry: Option<RetryStrategy>,
    },
    /// A further attempt of a parked task may begin.
    TaskRestarted { ordinal: u32, attempts: u64 },
    /// A task failed and waits for its next attempt.
    TaskParked { ordinal: u32, attempts: u64, error: ErrorObject, next_attempt_at: Timestamp },
    /// A task ended with a result.
    TaskCompleted { ordinal: u32, attempts: u64, output: Option<Payload> },
    /// A task ended with an error.
    TaskFailed { ordinal: u32, attempts: u64, error: ErrorObject },
    /// A sleep began.
    SleepOpened { ordinal: u32, name: String, wakeup_at: Timestamp },
    /// A sleep is over.
    SleepCompleted { ordinal: u32 },
    /// A sleep was cut short.
    SleepCancelled { ordinal: u32 },
    /// The handler read the time and was told this.
    TimeRead { time: Timestamp },
    /// An event reached the run. Nobody has to wait for it.
    EventReceived { event: ReceivedEvent },
    /// A wait began.
    WaitOpened { ordinal: u32, on: WaitOn, awaited: Option<RunStatus>, timeout_at: Option<Timestamp> },
    /// A wait ended well: with the event of this place among those received, or with its child's end.
    WaitCompleted { ordinal: u32, event: Option<u32> },
    /// A wait took too long.
    WaitTimedOut { ordinal: u32 },
    /// The handler stopped waiting.
    WaitDropped { ordinal: u32 },
    /// A child run was started, or found under its reference id; `run` is absent when it was refused.
    ChildOpened {
        ordinal: u32,
        run: Option<RunId>,
        workflow: WorkflowKey,
        input_hash: InputHash,
        reference_id: Option<String>,
    },
    /// A child run ended in this state.
    ChildEnded { ordinal: u32, state: RunState },
    /// The handler asked for the end of a child run.
    ChildCancelled { ordinal: u32 },
    /// An operator gave the result of a task that no handler had called yet; an entry with the result
    /// follows.
    TaskSeeded { ordinal: u32, name: String, input_hash: InputHash, input: Option<Payload> },
    /// The handler began again with another input and an empty history. Events that nobody had taken
    /// go with it.
    Continued { input: Option<Payload>, events: Vec<ReceivedEvent> },
}

/// An event as it reached the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReceivedEvent {
    /// The event's name.
    pub name: String,
    /// What it carries.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub data: Option<Payload>,
    /// The sender's own id for it: a second event of that name and id is ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference_id: Option<String>,
    /// When it reached the server.
    pub received_at: Timestamp,
}

impl Entry {
    /// Whether the entry is listed as a transition of the run or of a task.
    pub fn is_transition(&self) -> bool {
        matches!(
            self,
            Entry::Run { .. }
                | Entry::TaskOpened { .. }
                | Entry::TaskSeeded { .. }
                | Entry::TaskRestarted { .. }
                | Entry::TaskParked { .. }
                | Entry::TaskCompleted { .. }
                | Entry::TaskFailed { .. }
        )
    }

    /// Whether the entry tells the handler something that it did not do itself.
    pub fn is_signal(&self) -> bool {
        matches!(self, Entry::EventReceived { .. } | Entry::ChildEnded { .. })
    }

    /// Whether the entry settles a step: gives it the outcome that replay returns.
    pub fn settles(&self) -> bool {
        matches!(
            self,
            Entry::TaskCompleted { .. }
                | Entry::TaskFailed { .. }
                | Entry::SleepCompleted { .. }
                | Entry::SleepCancelled { .. }
                | Entry::WaitCompleted { .. }
                | Entry::WaitTimedOut { .. }
        )
    }
}
