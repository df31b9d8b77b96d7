//! Ids as they come. One that is no ULID is not wrong, it belongs to nothing.

use aiki_core::{RunId, ScheduleId, TaskId};

use crate::http::refusal::Refusal;

/// The id of a run.
pub(super) fn run(id: &str) -> Result<RunId, Refusal> {
    id.parse().map_err(|_| Refusal::not_found(format!("there is no run {id}")))
}

/// The id of a task.
pub(super) fn task(id: &str) -> Result<TaskId, Refusal> {
    id.parse().map_err(|_| Refusal::not_found(format!("there is no task {id}")))
}

/// The id of a schedule.
pub(super) fn schedule(id: &str) -> Result<ScheduleId, Refusal> {
    id.parse().map_err(|_| Refusal::not_found(format!("there is no schedule {id}")))
}
