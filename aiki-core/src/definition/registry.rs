//! The workflows that a worker serves.

use std::collections::BTreeMap;

use super::workflow::RegisteredWorkflow;
use crate::name::WorkflowKey;

/// A workflow that cannot be registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is registered twice: give one of them another name or version")]
pub struct RegistryError(pub WorkflowKey);

/// Workflow versions by name and version.
#[derive(Clone, Debug, Default)]
pub struct WorkflowRegistry {
    workflows: BTreeMap<WorkflowKey, RegisteredWorkflow>,
}

impl WorkflowRegistry {
    /// A registry without workflows.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a workflow version.
    ///
    /// # Errors
    /// [`RegistryError`] when that name and version is there already; the first one stays.
    pub fn add(&mut self, workflow: impl Into<RegisteredWorkflow>) -> Result<(), RegistryError> {
        let workflow = workflow.into();
        let key = workflow.key().clone();
        if self.workflows.contains_key(&key) {
            return Err(RegistryError(key));
        }
        self.workflows.insert(key, workflow);
        Ok(())
    }

    /// The code of a workflow version.
    pub fn get(&self, key: &WorkflowKey) -> Option<&RegisteredWorkflow> {
        self.workflows.get(key)
    }

    /// Names and versions, sorted.
    pub fn keys(&self) -> Vec<WorkflowKey> {
        self.workflows.keys().cloned().collect()
    }

    /// Whether there is nothing to serve.
    pub fn is_empty(&self) -> bool {
        self.workflows.is_empty()
    }
}
