//! The procedures of the contract.

mod ids;
mod workflow_run;

use super::caller::Role::Client;
use super::procedure::{Procedure, contract};

/// All of them, each with the least role that may call it.
pub(super) fn procedures() -> Vec<Procedure> {
    vec![contract("workflowRun/getStateV1", Client, workflow_run::get_state)]
}
