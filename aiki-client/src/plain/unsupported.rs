//! What the contract has no procedure for.

use aiki_core::ServerError;
use aiki_core::run::plan::CreateRun;

/// Refuses an operation for good: `extension` is the procedure of our own that it takes, with the field.
pub(super) fn unsupported(operation: &str, extension: &str, instead: &str) -> ServerError {
    ServerError::Unsupported {
        operation: operation.to_owned(),
        reason: format!("it takes our extension {extension}, and this server speaks the plain contract only"),
        instead: instead.to_owned(),
    }
}

/// Refuses what would come to nothing unnoticed. A priority is a wish and a trace is for people: these are left out.
pub(super) fn check_start(request: &CreateRun) -> Result<(), ServerError> {
    if request.deadline.is_some() {
        return Err(deadline());
    }
    match &request.concurrency {
        None => Ok(()),
        Some(_) => Err(unsupported(
            "starting a run under a concurrency key",
            "`createRuns` (`concurrency`)",
            "Limit the workflow on its worker, give the runs a pool with one worker, or update the server",
        )),
    }
}

pub(super) fn deadline() -> ServerError {
    unsupported(
        "starting a run with a deadline",
        "`createRuns` (`deadline`)",
        "Leave out the deadline and cancel the run when its time is over, or update the server",
    )
}

pub(super) fn continuing() -> ServerError {
    unsupported(
        "continuing a run as new",
        "`report` (`continuedAsNew`)",
        "Start another run with that input as the last step and complete this one, or update the server",
    )
}

pub(super) fn exporting() -> ServerError {
    unsupported(
        "exporting a run",
        "`exportRun`",
        "Read its record and its transitions (`get_run`, `list_transitions`), or update the server: the contract does \
         not tell in which order steps were settled, so an export could not be replayed",
    )
}

pub(super) fn listing_workers() -> ServerError {
    unsupported("listing workers", "`listWorkers`", "Look at each worker's own status, or update the server")
}
