//! Asking for a schedule.

use serde::{Deserialize, Serialize};

use super::ScheduleSpec;
use crate::hash::{HashError, InputHash, input_hash};
use crate::name::WorkflowKey;
use crate::payload::{Payload, present};
use crate::run::{Reference, RunOptions};

/// A request for a schedule: makes one, or finds the one with the same definition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ActivateSchedule {
    /// The code that its runs execute.
    pub workflow: WorkflowKey,
    /// The input of its runs, raw.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub input: Option<Payload>,
    /// Hash of the input.
    pub input_hash: InputHash,
    /// Hashes of the same input by older hashers; they count as equal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deprecated_hashes: Vec<InputHash>,
    /// When runs are started.
    pub spec: ScheduleSpec,
    /// The caller's own id for the schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Reference>,
    /// Options of its runs; `None` when the caller sent none, which is another definition than empty ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<RunOptions>,
}

impl ActivateSchedule {
    /// A schedule of `workflow` with no options.
    pub fn new(workflow: WorkflowKey, spec: ScheduleSpec, input: Option<Payload>, input_hash: InputHash) -> Self {
        Self { workflow, input, input_hash, deprecated_hashes: Vec::new(), spec, reference: None, options: None }
    }

    /// The hashes by which the schedule is known: its own first, then those of older hashers.
    ///
    /// # Errors
    /// [`HashError`] when the definition cannot be hashed.
    pub fn definition_hashes(&self) -> Result<Vec<InputHash>, HashError> {
        let hashes = std::iter::once(&self.input_hash).chain(&self.deprecated_hashes);
        hashes.map(|hash| definition_hash(&self.workflow, &self.spec, hash, self.options.as_ref())).collect()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Definition<'a> {
    workflow_name: &'a str,
    workflow_version_id: &'a str,
    spec: &'a ScheduleSpec,
    workflow_run_input_hash: &'a InputHash,
    #[serde(skip_serializing_if = "Option::is_none")]
    workflow_run_options: Option<&'a RunOptions>,
}

/// Hashes all that defines a schedule. Two schedules with the same hash are the same schedule.
///
/// # Errors
/// [`HashError`] when the options or the spec cannot be hashed.
pub fn definition_hash(
    workflow: &WorkflowKey,
    spec: &ScheduleSpec,
    input_hash_value: &InputHash,
    options: Option<&RunOptions>,
) -> Result<InputHash, HashError> {
    let definition = Definition {
        workflow_name: workflow.name.as_str(),
        workflow_version_id: workflow.version.as_str(),
        spec,
        workflow_run_input_hash: input_hash_value,
        workflow_run_options: options,
    };
    let text = serde_json::to_string(&definition)
        .map_err(|_| HashError::NotJson { offset: 0, expected: "a definition that can be written as JSON" })?;
    input_hash(Some(&text))
}
