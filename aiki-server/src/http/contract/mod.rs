//! The procedures of the contract.

mod event;
mod list;
mod page;
mod run_claim;
mod run_read;
mod run_write;
mod schedule;
mod task;

use super::caller::Role::{Admin, Client, Worker};
use super::procedure::{Procedure, contract, contract_by_input};

/// All of them, each with the least role that may call it.
#[rustfmt::skip]
pub(super) fn procedures() -> Vec<Procedure> {
    vec![
        contract_by_input("workflowRun/createV1", Client, run_write::create_needs, run_write::create),
        contract("workflowRun/getByIdV1", Client, run_read::get),
        contract("workflowRun/getByReferenceIdV1", Client, run_read::get_by_reference),
        contract("workflowRun/getStateV1", Client, run_read::get_state),
        contract("workflowRun/listV1", Client, list::runs),
        contract("workflowRun/listTransitionsV1", Client, run_read::list_transitions),
        contract("workflowRun/listChildRunsV1", Client, run_read::list_children),
        contract("workflowRun/hasTerminatedV1", Client, run_read::has_terminated),
        contract("workflowRun/sendEventV1", Client, event::send),
        contract("workflowRun/multicastEventV1", Client, event::multicast),
        contract("workflowRun/multicastEventByReferenceV1", Client, event::multicast_by_reference),
        contract_by_input("workflowRun/transitionStateV1", Client, run_write::transition_needs, run_write::transition),
        contract("workflowRun/cancelByIdsV1", Client, run_write::cancel_by_ids),
        contract("workflowRun/claimReadyV1", Worker, run_claim::claim_ready),
        contract("workflowRun/claimRefreshV1", Worker, run_claim::claim_refresh),

        contract("task/getByIdV1", Client, task::get),
        contract("task/transitionStateV1", Worker, task::transition),
        contract("task/setStateV1", Admin, task::set_state),

        contract("schedule/activateV1", Client, schedule::activate),
        contract("schedule/getByIdV1", Client, schedule::get),
        contract("schedule/getByReferenceIdV1", Client, schedule::get_by_reference),
        contract("schedule/listV1", Client, schedule::list),
        contract("schedule/pauseV1", Client, schedule::pause),
        contract("schedule/resumeV1", Client, schedule::resume),
        contract("schedule/deactivateV1", Client, schedule::deactivate),

        contract("workflow/listV1", Client, list::workflows),
        contract("workflow/listVersionsV1", Client, list::versions),
        contract("workflow/getStatsV1", Client, list::stats),
    ]
}
