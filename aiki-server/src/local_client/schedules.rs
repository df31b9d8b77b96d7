//! Schedules.

use aiki_core::ServerError;
use aiki_core::schedule::{ActivateSchedule, ScheduleFilter, ScheduleId, SchedulePage, ScheduleRecord, ScheduleStatus};

use super::LocalClient;
use crate::operation::{ActivateScheduleOp, SetScheduleStatus};
use crate::storage::{ScheduleKey, ScheduleQuery};
use crate::validate;

impl LocalClient {
    /// Makes a schedule, or finds it.
    pub(super) async fn schedule_activated(&self, request: ActivateSchedule) -> Result<ScheduleRecord, ServerError> {
        let (calendar, hashes) = validate::schedule(&request, self.server.payload_limit)?;
        let namespace = self.namespace.clone();
        self.server.lane.call(ActivateScheduleOp { namespace, request, calendar, hashes }).await
    }

    /// A schedule of this namespace.
    pub(super) async fn schedule(&self, schedule: ScheduleId) -> Result<ScheduleRecord, ServerError> {
        let found = self.server.readers.read(move |store| store.schedules().load(schedule)).await?;
        let own = found.map(|found| found.record).filter(|record| record.namespace == self.namespace);
        own.ok_or_else(|| ServerError::ScheduleNotFound(schedule.to_string()))
    }

    /// The schedule with this reference id.
    pub(super) async fn schedule_of(&self, reference_id: &str) -> Result<ScheduleRecord, ServerError> {
        let key = ScheduleKey::Reference(self.namespace.clone(), reference_id.to_owned());
        match self.server.readers.read(move |store| store.schedules().find(&key)).await? {
            Some(schedule) => self.schedule(schedule).await,
            None => Err(ServerError::ScheduleNotFound(format!("with the reference id `{reference_id}`"))),
        }
    }

    /// The schedules that fit.
    pub(super) async fn schedules(
        &self,
        filter: ScheduleFilter,
        limit: usize,
        offset: usize,
    ) -> Result<SchedulePage, ServerError> {
        validate::items("schedules", limit)?;
        let query = ScheduleQuery { namespace: self.namespace.clone(), filter, limit, offset };
        let (schedules, total) = self.server.readers.read(move |store| store.schedules().list(&query)).await?;
        Ok(SchedulePage { schedules, total })
    }

    /// Pauses a schedule, resumes it or takes it out of service.
    pub(super) async fn schedule_set(
        &self,
        schedule: ScheduleId,
        status: ScheduleStatus,
    ) -> Result<ScheduleRecord, ServerError> {
        let namespace = self.namespace.clone();
        self.server.lane.call(SetScheduleStatus { namespace, schedule, status }).await
    }
}
