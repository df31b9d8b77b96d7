//! Schedules: what starts runs by the calendar. Types and the server's plans; there is no clock here, and what
//! a cron expression means is an argument: [`Occurrences`].

mod occurrences;
pub mod plan;
mod record;
mod request;
mod spec;
mod status;

pub use occurrences::Occurrences;
pub use record::{ScheduleFilter, SchedulePage, ScheduleRecord};
pub use request::{ActivateSchedule, definition_hash};
pub use spec::{OverlapPolicy, ScheduleSpec, Timing};
pub use status::ScheduleStatus;

pub use crate::id::ScheduleId;
