//! Schedules.

use aiki_core::ServerError;
use aiki_wire::native::{self, ScheduleData, ScheduleList};

use super::server;
use crate::local_client::LocalClient;

pub(super) async fn activate(
    client: LocalClient,
    call: native::ActivateScheduleCall,
) -> Result<ScheduleData, ServerError> {
    Ok(server(&client).activate_schedule(call.schedule).await?.into())
}

pub(super) async fn get(client: LocalClient, call: native::GetSchedule) -> Result<ScheduleData, ServerError> {
    Ok(server(&client).get_schedule(call.schedule).await?.into())
}

pub(super) async fn get_by_reference(
    client: LocalClient,
    call: native::GetScheduleByReference,
) -> Result<ScheduleData, ServerError> {
    Ok(server(&client).get_schedule_by_reference(&call.reference_id).await?.into())
}

pub(super) async fn list(client: LocalClient, call: native::ListSchedules) -> Result<ScheduleList, ServerError> {
    Ok(server(&client).list_schedules(call.filter, call.limit, call.offset).await?.into())
}

pub(super) async fn set_status(
    client: LocalClient,
    call: native::SetScheduleStatus,
) -> Result<ScheduleData, ServerError> {
    Ok(server(&client).set_schedule_status(call.schedule, call.status).await?.into())
}
