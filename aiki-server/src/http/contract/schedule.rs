//! Schedules.

use aiki_core::name::Source;
use aiki_core::schedule::{ScheduleFilter, ScheduleStatus};
use aiki_core::{Name, ServerClient};
use aiki_wire::contract::common::ById;
use aiki_wire::contract::schedule::{
    ActivateV1, Activated, ByReference, CountedSchedule, ListSchedules, ScheduleFilters, ScheduleList,
};
use aiki_wire::contract::unknown::UnknownId;

use super::page::Page;
use crate::http::refusal::Refusal;
use crate::local_client::LocalClient;

pub(super) async fn activate(client: LocalClient, asked: ActivateV1) -> Result<Activated, Refusal> {
    let record = client.activate_schedule(asked.into_core()).await?;
    Ok(Activated { schedule: record.into() })
}

pub(super) async fn get(client: LocalClient, asked: ById) -> Result<CountedSchedule, Refusal> {
    Ok(client.get_schedule(UnknownId::schedule(&asked.id)?).await?.into())
}

pub(super) async fn get_by_reference(client: LocalClient, asked: ByReference) -> Result<CountedSchedule, Refusal> {
    Ok(client.get_schedule_by_reference(&asked.reference).await?.into())
}

pub(super) async fn list(client: LocalClient, asked: ListSchedules) -> Result<ScheduleList, Refusal> {
    let page = Page::new(asked.limit, asked.offset);
    let Some(filter) = filter(asked.filters) else {
        return Ok(ScheduleList { schedules: Vec::new(), total: 0 });
    };
    let found = client.list_schedules(filter, page.limit, page.offset).await?;
    Ok(ScheduleList { schedules: found.schedules.into_iter().map(Into::into).collect(), total: found.total })
}

/// `None` when nothing can fit.
fn filter(asked: Option<ScheduleFilters>) -> Option<ScheduleFilter> {
    let Some(asked) = asked else { return Some(ScheduleFilter::default()) };
    let id = match asked.id {
        Some(id) => Some(UnknownId::schedule(&id).ok()?),
        None => None,
    };
    let asked_workflows = asked.workflows.unwrap_or_default();
    let any = asked_workflows.is_empty();
    // Only workflows of users have schedules.
    let own = asked_workflows.into_iter().filter(|workflow| workflow.source == Source::User);
    let workflows: Vec<_> = own.map(|workflow| (Name::from(workflow.name), workflow.version.map(Name::from))).collect();
    (any || !workflows.is_empty()).then(|| ScheduleFilter {
        statuses: asked.status.unwrap_or_default(),
        id,
        reference_id: asked.reference.map(Into::into),
        workflows,
    })
}

pub(super) async fn pause(client: LocalClient, asked: ById) -> Result<(), Refusal> {
    set(client, &asked, ScheduleStatus::Paused).await
}

pub(super) async fn resume(client: LocalClient, asked: ById) -> Result<(), Refusal> {
    set(client, &asked, ScheduleStatus::Active).await
}

pub(super) async fn deactivate(client: LocalClient, asked: ById) -> Result<(), Refusal> {
    set(client, &asked, ScheduleStatus::Inactive).await
}

async fn set(client: LocalClient, asked: &ById, status: ScheduleStatus) -> Result<(), Refusal> {
    client.set_schedule_status(UnknownId::schedule(&asked.id)?, status).await?;
    Ok(())
}
