//! What a run waits for besides time: events and the end of child runs.

use serde::{Deserialize, Serialize};

use super::state::RunState;
use super::status::RunStatus;
use crate::hash::InputHash;
use crate::id::RunId;
use crate::name::WorkflowKey;
use crate::time::Timestamp;

/// What a wait is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitOn {
    /// The next event of this name.
    Event(String),
    /// The end of the child with this ordinal.
    Child(u32),
}

/// One wait of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitRecord {
    /// Its place among the run's waits, from 0.
    pub ordinal: u32,
    /// What it is for.
    pub on: WaitOn,
    /// How the child was to end, where a worker of the plain contract waits for just that.
    pub awaited: Option<RunStatus>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Where it stands.
    pub state: WaitState,
    /// Its place in the order in which the run's steps were settled, from 1.
    pub settled: Option<u64>,
    /// A later attempt of the run does not take it over: nothing had come of it.
    pub discarded: bool,
}

/// Where a wait stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each variant says what its field is")]
pub enum WaitState {
    /// It lasts, until `timeout_at` at most.
    Waiting { timeout_at: Option<Timestamp> },
    /// It ended well; an event's place among those received.
    Completed { event: Option<u32> },
    /// It took too long.
    TimedOut { timed_out_at: Timestamp },
    /// The handler stopped waiting.
    Dropped,
}

/// One child of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildRecord {
    /// Its place among the run's children, from 0.
    pub ordinal: u32,
    /// The child run; absent when the server refused to start it.
    pub run: Option<RunId>,
    /// The code that it executes.
    pub workflow: WorkflowKey,
    /// Hash of its input.
    pub input_hash: InputHash,
    /// The reference id under which it was started.
    pub reference_id: Option<String>,
    /// How it ended.
    pub ended: Option<RunState>,
    /// Whether the handler asked for its end.
    pub cancelled: bool,
    /// The attempt of the parent in which it was started.
    pub run_attempt: u64,
    /// A later attempt of the parent does not take it over: it did not complete.
    pub discarded: bool,
}

/// How many of each kind a run has counted; the ordinal of the next one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "named as what they count")]
pub struct Ordinals {
    pub tasks: u32,
    pub sleeps: u32,
    pub waits: u32,
    pub children: u32,
    pub transitions: u32,
    pub signals: u32,
}

impl Ordinals {
    /// Whether nothing was counted.
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}
