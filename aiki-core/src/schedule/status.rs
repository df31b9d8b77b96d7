//! Whether a schedule starts runs.

use serde::{Deserialize, Serialize};

/// Whether a schedule starts runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleStatus {
    /// It does.
    #[default]
    Active,
    /// It does not for now. What it misses it catches up with once it is active again, as far as its overlap
    /// policy wants that.
    Paused,
    /// It was taken out of service. Activating the same definition again brings it back.
    Inactive,
}

impl ScheduleStatus {
    /// The status as on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            ScheduleStatus::Active => "active",
            ScheduleStatus::Paused => "paused",
            ScheduleStatus::Inactive => "inactive",
        }
    }
}
