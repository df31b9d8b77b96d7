//! Pausing and resuming a schedule, and taking it out of service.

use aiki_core::schedule::{ScheduleRecord, ScheduleStatus, plan};
use aiki_core::{Name, ScheduleId, ServerError};

use super::Operation;
use crate::lane::Desk;

pub(crate) struct SetScheduleStatus {
    pub(crate) namespace: Name,
    pub(crate) schedule: ScheduleId,
    pub(crate) status: ScheduleStatus,
}

impl Operation for SetScheduleStatus {
    type Answer = ScheduleRecord;

    fn plan(&self, desk: &mut Desk<'_>) -> Result<ScheduleRecord, ServerError> {
        desk.schedule(&self.namespace, self.schedule)?;
        desk.edit_schedule(self.schedule, |record, now| plan::set_status(record, self.status, now))?;
        desk.schedule(&self.namespace, self.schedule).cloned()
    }
}
