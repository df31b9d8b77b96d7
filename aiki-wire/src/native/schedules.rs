//! Schedules.

use aiki_core::payload::{Payload, present};
use aiki_core::schedule::{ActivateSchedule, ScheduleFilter, ScheduleId, SchedulePage, ScheduleRecord, ScheduleStatus};
use serde::{Deserialize, Serialize};

use super::call;

/// Makes a schedule, or finds it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ActivateScheduleCall {
    /// What is asked for.
    pub schedule: ActivateSchedule,
}

/// Reads a schedule.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GetSchedule {
    /// The schedule.
    pub schedule: ScheduleId,
}

/// Reads the schedule with a reference id.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GetScheduleByReference {
    /// The reference id.
    pub reference_id: String,
}

/// Lists schedules.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ListSchedules {
    /// Which.
    #[serde(default)]
    pub filter: ScheduleFilter,
    /// At most so many.
    pub limit: usize,
    /// Behind the first so many.
    #[serde(default)]
    pub offset: usize,
}

/// Pauses a schedule, resumes it or takes it out of service.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SetScheduleStatus {
    /// The schedule.
    pub schedule: ScheduleId,
    /// What it is to be.
    pub status: ScheduleStatus,
}

/// A schedule with the input of its runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ScheduleData {
    /// The schedule.
    pub schedule: Box<ScheduleRecord>,
    /// The input of its runs.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub input: Option<Payload>,
}

/// A part of a list of schedules.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ScheduleList {
    /// The schedules.
    pub schedules: Vec<ScheduleData>,
    /// How many there are in all.
    pub total: u64,
}

impl From<ScheduleRecord> for ScheduleData {
    fn from(mut record: ScheduleRecord) -> Self {
        let input = record.input.take();
        Self { schedule: Box::new(record), input }
    }
}

impl From<ScheduleData> for ScheduleRecord {
    fn from(ScheduleData { schedule, input }: ScheduleData) -> Self {
        ScheduleRecord { input, ..*schedule }
    }
}

impl From<SchedulePage> for ScheduleList {
    fn from(page: SchedulePage) -> Self {
        Self { schedules: page.schedules.into_iter().map(Into::into).collect(), total: page.total }
    }
}

impl From<ScheduleList> for SchedulePage {
    fn from(list: ScheduleList) -> Self {
        Self { schedules: list.schedules.into_iter().map(Into::into).collect(), total: list.total }
    }
}

call!(ActivateScheduleCall, "activateSchedule" -> ScheduleData);
call!(GetSchedule, "getSchedule" -> ScheduleData);
call!(GetScheduleByReference, "getScheduleByReference" -> ScheduleData);
call!(ListSchedules, "listSchedules" -> ScheduleList);
call!(SetScheduleStatus, "setScheduleStatus" -> ScheduleData);
