//! The procedures of our own client (`docs/wire-protocol.md`): thin, over [`LocalClient`].

mod claims;
mod runs;
mod schedules;
mod waits;
mod workers;

use std::future::Future;

use aiki_core::{ServerClient, ServerError};
use aiki_wire::native::{self, Call};
use serde_json::value::RawValue;

use crate::local_client::LocalClient;

/// Answers a call of the group `native`; `None` when there is no such procedure.
pub(crate) async fn call(
    client: &LocalClient,
    procedure: &str,
    input: Option<&RawValue>,
) -> Option<Result<Box<RawValue>, ServerError>> {
    macro_rules! table {
        ($($input:ty => $handler:path,)*) => {
            match procedure {
                $(<$input>::PROCEDURE => answer::<$input, _>(input, |input| $handler(client, input)).await,)*
                _ => return None,
            }
        };
    }
    Some(table! {
        native::Negotiate => workers::negotiate,
        native::CreateRuns => runs::create,
        native::StartAndWait => runs::start_and_wait,
        native::GetRun => runs::get,
        native::GetRunByReference => runs::get_by_reference,
        native::AwaitRuns => waits::await_runs,
        native::CancelRun => runs::cancel,
        native::CancelRuns => runs::cancel_many,
        native::CommandRun => runs::command,
        native::SetTaskResult => runs::set_task_result,
        native::ListChildRuns => runs::list_children,
        native::GetSignals => runs::get_signals,
        native::SendEvents => runs::send_events,
        native::ClaimRuns => claims::claim,
        native::ClaimReadyRuns => claims::claim_ready,
        native::RefreshRuns => claims::refresh,
        native::ReleaseRuns => claims::release,
        native::Reports => claims::report,
        native::AwaitNews => workers::await_news,
        native::AnnounceWorker => workers::announce,
        native::ListWorkers => workers::list,
        native::ActivateScheduleCall => schedules::activate,
        native::GetSchedule => schedules::get,
        native::GetScheduleByReference => schedules::get_by_reference,
        native::ListSchedules => schedules::list,
        native::SetScheduleStatus => schedules::set_status,
    })
}

/// Reads the input, and writes what the handler answers.
async fn answer<C: Call, F: Future<Output = Result<C::Answer, ServerError>>>(
    input: Option<&RawValue>,
    handler: impl FnOnce(C) -> F,
) -> Result<Box<RawValue>, ServerError> {
    let input = serde_json::from_str(input.map_or("null", RawValue::get))
        .map_err(|error| ServerError::Invalid(format!("the input of {}: {error}", C::PROCEDURE)))?;
    let answer = handler(input).await?;
    serde_json::value::to_raw_value(&answer)
        .map_err(|error| ServerError::Internal(format!("the answer of {}: {error}", C::PROCEDURE)))
}

/// The namespace's client as the trait sees it.
fn server(client: &LocalClient) -> &dyn ServerClient {
    client
}
