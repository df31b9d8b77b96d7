//! Announcing ready runs to workers.

use async_trait::async_trait;

use crate::id::RunId;
use crate::name::{Name, WorkflowKey};
use crate::rank::Priority;

/// A run that waits for a worker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ReadyRun {
    /// The run.
    pub id: RunId,
    /// Its tenant.
    pub namespace: Name,
    /// Its code.
    pub workflow: WorkflowKey,
    /// The pool that it is reserved for.
    pub pool: Option<Name>,
    /// How urgent it is.
    pub priority: Priority,
}

/// What became of a batch, run by run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishReport {
    /// Runs that could not be announced, and why. The others were.
    pub failed: Vec<(RunId, String)>,
}

/// Announces ready runs. An announcement is a hint: it may be lost, repeated or late, and the server
/// announces again what nobody took.
#[async_trait]
pub trait Publisher: Send + Sync + 'static {
    /// Announces a batch. Never fails as a whole: every run that could not be announced is named.
    async fn publish(&self, runs: &[ReadyRun]) -> PublishReport;
}
