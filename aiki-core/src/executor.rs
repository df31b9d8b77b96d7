//! Running one claimed run.

use async_trait::async_trait;

use crate::cancel::CancellationToken;
use crate::replay::Close;
use crate::server_client::ClaimedRun;

/// How an execution ended, as far as the delivery that led to it is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server has recorded how the pass ended.
    Closed(Close),
    /// The execution was cut short and nothing was recorded about its end: the worker still holds the
    /// claim and must hand it back.
    Interrupted,
}

impl Outcome {
    /// Whether the delivery of the run may be acknowledged. This is the only place that decides it:
    /// only when the server holds a state that announces the run again by itself, if need be.
    pub fn settles_delivery(self) -> bool {
        match self {
            Outcome::Closed(
                Close::Suspended | Close::Completed | Close::Failed | Close::Retrying | Close::Continued,
            ) => true,
            // Somebody else owns the run now, or it ended: the server knows where it stands.
            Outcome::Closed(Close::Lost) => true,
            Outcome::Interrupted => false,
        }
    }
}

/// What surrounds an execution.
#[derive(Clone, Debug, Default)]
pub struct ExecutionScope {
    /// Cancelled when the claim was found to be lost: stop at once, write nothing more.
    pub lost: CancellationToken,
    /// Cancelled when the worker cannot wait any longer: stop and leave the claim as it is.
    pub interrupted: CancellationToken,
}

/// Executes claimed runs. The worker's own implementation replays handlers; a decorator can measure
/// or disturb them.
#[async_trait]
pub trait WorkflowExecutor: Send + Sync + 'static {
    /// Executes one pass over a claimed run and reports it to the server.
    ///
    /// Not cancel-safe in the sense that dropping it loses work: what was reported stays recorded,
    /// the rest is repeated by whoever claims the run next.
    async fn execute(&self, claim: ClaimedRun, scope: ExecutionScope) -> Outcome;
}
