//! Requests of the contract.

use aiki_core::failure::ErrorObject;
use aiki_core::name::WorkflowKey;
use aiki_core::run::plan::CreateRun;
use aiki_core::run::{Reference, RunOptions};
use aiki_core::time::ceil_millis;
use aiki_core::{InputHash, Name, Payload, RetryStrategy, RunId};
use serde::Serialize;

#[derive(Serialize)]
pub(super) struct Id {
    pub(super) id: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ByReference<'a> {
    pub(super) name: &'a str,
    pub(super) version_id: &'a str,
    pub(super) reference_id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Create {
    name: Name,
    version_id: Name,
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<Payload>,
    input_hash: Hashes,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<Parent>,
    options: Options,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Hashes {
    value: InputHash,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    deprecated_values: Vec<InputHash>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Parent {
    pub(super) workflow_run_id: RunId,
    pub(super) expected_revision: u64,
}

#[derive(Default, Serialize)]
pub(super) struct Options {
    #[serde(skip_serializing_if = "Option::is_none")]
    retry: Option<RetryStrategy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pool: Option<Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trigger: Option<Trigger>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Trigger {
    r#type: &'static str,
    delay_ms: u64,
}

impl Options {
    pub(super) fn retry(retry: Option<RetryStrategy>) -> Self {
        Self { retry, ..Self::default() }
    }
}

impl Create {
    pub(super) fn new(request: CreateRun, parent: Option<Parent>) -> Self {
        let RunOptions { retry, pool } = request.options.unwrap_or_default();
        let delay_ms = ceil_millis(request.delay);
        let trigger = (delay_ms > 0).then_some(Trigger { r#type: "delayed", delay_ms });
        Self {
            name: request.workflow.name,
            version_id: request.workflow.version,
            input: request.input,
            input_hash: Hashes { value: request.input_hash, deprecated_values: request.deprecated_hashes },
            parent,
            options: Options { retry, pool, reference: request.reference, trigger },
        }
    }
}

#[derive(Serialize)]
pub(super) struct ClaimReady {
    pub(super) workflows: Vec<WorkflowKey>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) pools: Vec<Name>,
    pub(super) limit: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MoveRun {
    pub(super) r#type: &'static str,
    pub(super) id: RunId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) expected_revision: Option<u64>,
    pub(super) state: State,
}

impl MoveRun {
    pub(super) fn expecting(id: RunId, revision: u64, state: State) -> Self {
        Self { r#type: "optimistic", id, expected_revision: Some(revision), state }
    }

    pub(super) fn anyhow(id: RunId, state: State) -> Self {
        Self { r#type: "pessimistic", id, expected_revision: None, state }
    }
}

/// The state that a run is to have.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct State {
    pub(super) status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) scheduled_in_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sleep_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) duration_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) event_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) child_workflow_run_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) child_workflow_run_status: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) timeout_in_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next_attempt_in_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cause: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) task_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<ErrorObject>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) explanation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) output: Option<Payload>,
}

impl State {
    pub(super) fn of(status: &'static str) -> Self {
        Self { status, ..Self::default() }
    }

    pub(super) fn sleeping(name: impl Into<String>, ms: u64) -> Self {
        Self { sleep_name: Some(name.into()), duration_ms: Some(ms.max(1)), ..Self::of("sleeping") }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MoveTask {
    pub(super) workflow_run_id: RunId,
    pub(super) expected_workflow_run_revision: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) r#type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) task_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) options: Option<Options>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) input: Option<Payload>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) input_hash: Option<InputHash>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) task_state: Option<TaskState>,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TaskState {
    pub(super) status: &'static str,
    pub(super) attempts: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) output: Option<Payload>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<ErrorObject>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next_attempt_in_ms: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Event {
    pub(super) id: RunId,
    pub(super) event_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) data: Option<Payload>,
    pub(super) options: EventOptions,
}

#[derive(Serialize)]
pub(super) struct EventOptions {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reference: Option<Id>,
}

#[derive(Serialize)]
pub(super) struct Cancel {
    pub(super) ids: Vec<RunId>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Children {
    pub(super) id: RunId,
    pub(super) child_run_status: Vec<aiki_core::run::RunStatus>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct HasTerminated {
    pub(super) id: String,
    pub(super) after_state_transition_id: String,
}
