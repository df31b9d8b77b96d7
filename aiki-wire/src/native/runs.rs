//! What callers ask of runs.

use std::time::Duration;

use aiki_core::RunId;
use aiki_core::failure::ErrorObject;
use aiki_core::name::WorkflowKey;
use aiki_core::payload::{Payload, present};
use aiki_core::run::RunStatus;
use aiki_core::run::plan::{CreateRun, RunCommand, TaskTarget};
use aiki_core::run::record::Signal;
use aiki_core::server_client::{ChildRun, CreatedRun, RunView, SendEvent};
use aiki_core::time::millis;
use serde::{Deserialize, Serialize};

use super::{Outcome, RunData, call};

/// A new run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NewRun {
    /// Names the start, where the caller gave no reference id: asking again with the same key makes no second run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// What is asked for.
    pub run: CreateRun,
}

/// Creates runs, each by itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateRuns {
    /// The runs.
    pub runs: Vec<NewRun>,
}

/// Creates a run and waits until it has ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StartAndWait {
    /// The run.
    pub run: NewRun,
    /// At most so long.
    #[serde(rename = "timeoutMs", with = "millis")]
    pub timeout: Duration,
}

/// The answer to [`StartAndWait`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StartedAndWaited {
    /// What became of the start.
    pub created: Outcome<CreatedRun>,
    /// Where the run stands at the end of the wait; absent when there is no run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view: Option<Outcome<RunView>>,
}

/// Reads a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GetRun {
    /// The run.
    pub run: RunId,
}

/// Reads the run with a reference id.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GetRunByReference {
    /// The workflow version.
    pub workflow: WorkflowKey,
    /// The reference id.
    pub reference_id: String,
}

/// Waits until at least one of several runs has ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AwaitRuns {
    /// The runs.
    pub runs: Vec<RunId>,
    /// At most so long. Zero tells where the runs stand.
    #[serde(rename = "timeoutMs", with = "millis")]
    pub timeout: Duration,
}

/// One run of several that are waited for. Runs that have not ended are left out, unless the time was over.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Awaited {
    /// The run.
    pub run: RunId,
    /// Where it stands.
    pub view: Outcome<RunView>,
}

/// Cancels a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CancelRun {
    /// The run.
    pub run: RunId,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explanation: Option<String>,
}

/// Cancels those of several runs that have not ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CancelRuns {
    /// The runs.
    pub runs: Vec<RunId>,
}

/// Pauses, resumes, wakes or requeues a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CommandRun {
    /// The run.
    pub run: RunId,
    /// What to do.
    pub command: RunCommand,
}

/// Gives a task a result.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SetTaskResult {
    /// The run.
    pub run: RunId,
    /// The task.
    pub target: TaskTarget,
    /// The result.
    pub result: TaskResult,
}

/// The result of a task.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TaskResult {
    /// It returned.
    Completed {
        /// What it returned.
        #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
        output: Option<Payload>,
    },
    /// It failed.
    Failed {
        /// How.
        error: ErrorObject,
    },
}

/// The children of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ListChildRuns {
    /// The run.
    pub run: RunId,
    /// Those in one of these statuses; empty is all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub statuses: Vec<RunStatus>,
}

/// The signals of a run behind those that are known.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GetSignals {
    /// The run.
    pub run: RunId,
    /// How many are known.
    pub known: u32,
}

/// An event for one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OneEvent {
    /// The event.
    pub event: SendEvent,
    /// Sending again with the same key hands over nothing a second time. For events without a reference id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// Hands over events, each by itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SendEvents {
    /// The events.
    pub events: Vec<OneEvent>,
}

call!(CreateRuns, "createRuns" -> Vec<Outcome<CreatedRun>>);
call!(StartAndWait, "startAndWait" -> StartedAndWaited);
call!(GetRun, "getRun" -> RunData);
call!(GetRunByReference, "getRunByReference" -> RunData);
call!(AwaitRuns, "awaitRuns" -> Vec<Awaited>);
call!(CancelRun, "cancelRun" -> ());
call!(CancelRuns, "cancelRuns" -> Vec<RunId>);
call!(CommandRun, "commandRun" -> ());
call!(SetTaskResult, "setTaskResult" -> ());
call!(ListChildRuns, "listChildRuns" -> Vec<ChildRun>);
call!(GetSignals, "getSignals" -> Vec<Signal>);
call!(SendEvents, "sendEvents" -> Vec<Outcome<()>>);

impl StartedAndWaited {
    /// What became of the start.
    pub fn of(created: CreatedRun, view: Outcome<RunView>) -> Self {
        Self { created: Outcome::Ok(created), view: Some(view) }
    }
}
