//! What workers and clients of the plain contract ask for.

mod child;
mod claim;
mod run;
mod task;

use aiki_core::run::plan::plain::PlainError;
use aiki_core::{Payload, RunId, ServerError};

pub(crate) use child::CreateChild;
pub(crate) use claim::{ClaimPlainly, RefreshPlainly};
pub(crate) use run::MoveRun;
pub(crate) use task::MoveTask;

fn refusal(run: RunId, error: PlainError) -> ServerError {
    match error {
        PlainError::Revision { expected, actual } => ServerError::RevisionConflict { run, expected, actual },
        PlainError::TaskNotFound(task) => ServerError::TaskNotFound(task),
        PlainError::Illegal(_) | PlainError::Refused(_) => ServerError::IllegalTransition(error.to_string()),
    }
}

fn size(payload: Option<&Payload>) -> usize {
    payload.map_or(0, |payload| payload.as_str().len())
}
