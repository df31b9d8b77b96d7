//! The workflows that a worker serves, which may grow while it runs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aiki_core::{RegisteredWorkflow, WorkflowKey, WorkflowRegistry};
use tokio::sync::watch;

use crate::error::WorkerError;
use crate::lifecycle::Control;
use crate::trace;

/// The registry and what was refused by it.
#[derive(Debug, Default)]
struct Content {
    workflows: WorkflowRegistry,
    duplicates: Vec<WorkflowKey>,
    started: bool,
}

/// Duplicates that are remembered; the rest is only logged.
const MAX_DUPLICATES: usize = 64;

#[derive(Debug, Default)]
pub(crate) struct Registry {
    content: Mutex<Content>,
    /// What every worker serves for Aiki itself.
    system: Option<RegisteredWorkflow>,
}

impl Registry {
    pub(crate) fn new(system: RegisteredWorkflow) -> Self {
        Self { content: Mutex::default(), system: Some(system) }
    }

    fn system(&self, key: &WorkflowKey) -> Option<&RegisteredWorkflow> {
        self.system.as_ref().filter(|workflow| workflow.key() == key)
    }

    /// Everything that is served, Aiki's own included.
    pub(crate) fn served(&self) -> Vec<WorkflowKey> {
        let own = self.system.iter().map(|workflow| workflow.key().clone());
        own.chain(self.keys()).collect()
    }

    pub(crate) fn get(&self, key: &WorkflowKey) -> Option<RegisteredWorkflow> {
        self.lock().workflows.get(key).cloned().or_else(|| self.system(key).cloned())
    }

    pub(crate) fn contains(&self, key: &WorkflowKey) -> bool {
        self.lock().workflows.get(key).is_some() || self.system(key).is_some()
    }

    pub(crate) fn keys(&self) -> Vec<WorkflowKey> {
        self.lock().workflows.keys()
    }

    pub(crate) fn duplicates(&self) -> Vec<WorkflowKey> {
        self.lock().duplicates.clone()
    }

    /// Checks what was registered so far; from here on a duplicate is logged instead.
    pub(crate) fn start(&self) -> Result<(), WorkerError> {
        let mut content = self.lock();
        if let Some(key) = content.duplicates.first() {
            return Err(WorkerError::DuplicateWorkflow(key.clone()));
        }
        if content.workflows.is_empty() {
            return Err(WorkerError::NothingRegistered);
        }
        content.started = true;
        Ok(())
    }

    /// Adds a workflow; whether it is new.
    fn add(&self, workflow: RegisteredWorkflow) -> bool {
        let mut content = self.lock();
        let Err(error) = content.workflows.add(workflow) else { return true };
        if content.started {
            trace::duplicate_ignored(&error.0);
        }
        if content.duplicates.len() < MAX_DUPLICATES {
            content.duplicates.push(error.0);
        }
        false
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds workflows to a worker; got from [`Worker::workflow_registry`](crate::Worker::workflow_registry).
#[derive(Clone, Debug)]
pub struct RegistryHandle {
    registry: Arc<Registry>,
    control: watch::Sender<Control>,
}

impl RegistryHandle {
    pub(crate) fn new(registry: Arc<Registry>, control: watch::Sender<Control>) -> Self {
        Self { registry, control }
    }

    /// Serves this workflow version as well.
    ///
    /// After [`start`](crate::Worker::start) the worker subscribes anew, so the addition takes
    /// effect within moments; what is being executed goes on. A name and version that is there
    /// already: before `start` it makes `start` fail, afterwards it is logged, shown in the status
    /// and ignored. The first registration stays either way.
    #[allow(clippy::should_implement_trait, reason = "this is no arithmetic")]
    pub fn add(self, workflow: impl Into<RegisteredWorkflow>) -> Self {
        if self.registry.add(workflow.into()) {
            self.control.send_modify(|control| control.registry_version += 1);
        }
        self
    }

    /// The workflow versions that are served, sorted.
    pub fn keys(&self) -> Vec<WorkflowKey> {
        self.registry.keys()
    }
}
