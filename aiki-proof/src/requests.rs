//! What each procedure reads its input with.

use aiki_wire::contract::common::ById;
use aiki_wire::contract::run_request::{
    CancelByIds, ClaimReadyV1, HasTerminated, ListChildRuns, ListRuns, ListTransitions, MulticastByReference,
    MulticastEvent, RunReference, SendEventV1,
};
use aiki_wire::contract::run_transition::RunTransition;
use aiki_wire::contract::schedule::{ActivateV1, ByReference, ListSchedules};
use aiki_wire::contract::start::CreateV1;
use aiki_wire::contract::task_request::{SetTaskState, TaskTransition};
use aiki_wire::contract::workflow::{GetStats, ListVersions, ListWorkflows};
use aiki_wire::native::{self, Call};
use aiki_wire::read::{Input, Invalid, by_serde};
use serde::Serialize;
use serde_json::value::RawValue;

/// Reads an input as a procedure does.
pub type Reader = fn(Option<&RawValue>) -> Result<(), Invalid>;

/// Every procedure with its reader.
pub const REQUESTS: &[(&str, Reader)] = &[
    ("workflowRun/createV1", contract::<CreateV1>),
    ("workflowRun/getByIdV1", contract::<ById>),
    ("workflowRun/getByReferenceIdV1", contract::<RunReference>),
    ("workflowRun/getStateV1", contract::<ById>),
    ("workflowRun/listV1", contract::<ListRuns>),
    ("workflowRun/listTransitionsV1", contract::<ListTransitions>),
    ("workflowRun/listChildRunsV1", contract::<ListChildRuns>),
    ("workflowRun/hasTerminatedV1", contract::<HasTerminated>),
    ("workflowRun/sendEventV1", contract::<SendEventV1>),
    ("workflowRun/multicastEventV1", contract::<MulticastEvent>),
    ("workflowRun/multicastEventByReferenceV1", contract::<MulticastByReference>),
    ("workflowRun/transitionStateV1", contract::<RunTransition>),
    ("workflowRun/cancelByIdsV1", contract::<CancelByIds>),
    ("workflowRun/claimReadyV1", contract::<ClaimReadyV1>),
    ("workflowRun/claimRefreshV1", contract::<ById>),
    ("task/getByIdV1", contract::<ById>),
    ("task/transitionStateV1", contract::<TaskTransition>),
    ("task/setStateV1", contract::<SetTaskState>),
    ("schedule/activateV1", contract::<ActivateV1>),
    ("schedule/getByIdV1", contract::<ById>),
    ("schedule/getByReferenceIdV1", contract::<ByReference>),
    ("schedule/listV1", contract::<ListSchedules>),
    ("schedule/pauseV1", contract::<ById>),
    ("schedule/resumeV1", contract::<ById>),
    ("schedule/deactivateV1", contract::<ById>),
    ("workflow/listV1", contract::<ListWorkflows>),
    ("workflow/listVersionsV1", contract::<ListVersions>),
    ("workflow/getStatsV1", |raw| GetStats::input(raw).map(drop)),
    own::<native::Negotiate>(),
    own::<native::CreateRuns>(),
    own::<native::StartAndWait>(),
    own::<native::GetRun>(),
    own::<native::GetRunByReference>(),
    own::<native::ListChildRuns>(),
    own::<native::SendEvents>(),
    own::<native::CancelRun>(),
    own::<native::CancelRuns>(),
    own::<native::CommandRun>(),
    own::<native::AwaitRuns>(),
    own::<native::ListWorkers>(),
    own::<native::ListRuns>(),
    own::<native::CountRuns>(),
    own::<native::ListWorkflows>(),
    own::<native::ListWorkflowVersions>(),
    own::<native::RunStats>(),
    own::<native::ExportRun>(),
    own::<native::GetSignals>(),
    own::<native::ClaimRuns>(),
    own::<native::ClaimReadyRuns>(),
    own::<native::RefreshRuns>(),
    own::<native::ReleaseRuns>(),
    own::<native::Reports>(),
    own::<native::AwaitNews>(),
    own::<native::AnnounceWorker>(),
    own::<native::GetSchedule>(),
    own::<native::GetScheduleByReference>(),
    own::<native::ListSchedules>(),
    own::<native::ActivateScheduleCall>(),
    own::<native::SetScheduleStatus>(),
    own::<native::SetTaskResult>(),
];

/// A procedure of the contract. What is read can be written, and read again.
fn contract<T: Input + Serialize>(raw: Option<&RawValue>) -> Result<(), Invalid> {
    again(&T::input(raw)?, |raw| T::input(raw).map(drop));
    Ok(())
}

/// One of our own.
const fn own<C: Call>() -> (&'static str, Reader) {
    (C::PROCEDURE, |raw| {
        again(&by_serde::<C>(raw)?, |raw| by_serde::<C>(raw).map(drop));
        Ok(())
    })
}

/// Clients write with the same types: what they write has to be understood.
#[allow(clippy::panic, reason = "a panic is what the fuzzer looks for")]
fn again<T: Serialize>(read: &T, reader: Reader) {
    let written = serde_json::value::to_raw_value(read);
    let understood =
        written.map(|written| reader(Some(&written)).map_err(|error| format!("{}: {error}", written.get())));
    match understood {
        Ok(Ok(())) => {}
        Ok(Err(told)) => panic!("what was written is not understood: {told}"),
        Err(error) => panic!("what was read cannot be written: {error}"),
    }
}
