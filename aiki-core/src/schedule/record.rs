//! A schedule as it is kept and read.

use serde::{Deserialize, Serialize};

use super::{ScheduleSpec, ScheduleStatus};
use crate::hash::InputHash;
use crate::id::{RunId, ScheduleId};
use crate::name::{Name, WorkflowKey};
use crate::payload::Payload;
use crate::run::RunOptions;
use crate::time::Timestamp;

/// A schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleRecord {
    /// The schedule's id.
    pub id: ScheduleId,
    /// The tenant that it belongs to.
    pub namespace: Name,
    /// The code that its runs execute.
    pub workflow: WorkflowKey,
    /// Whether it starts runs.
    pub status: ScheduleStatus,
    /// When it starts them.
    pub spec: ScheduleSpec,
    /// The input of its runs. Stores keep it beside the rest: it never changes and may be long.
    #[serde(skip)]
    pub input: Option<Payload>,
    /// Hash of the input.
    pub input_hash: InputHash,
    /// Hash of all that defines the schedule, unique in its namespace.
    pub definition_hash: InputHash,
    /// The caller's own id for it, unique in its namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference_id: Option<String>,
    /// Options of its runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<RunOptions>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed; an occurrence is a change.
    pub updated_at: Timestamp,
    /// The latest occurrence that had a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_occurrence: Option<Timestamp>,
    /// When it is due next; [`Timestamp::MAX`] is never.
    pub next_run_at: Timestamp,
    /// The run of [`last_occurrence`](Self::last_occurrence).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<RunId>,
    /// Runs that it has made.
    pub run_count: u64,
}

impl ScheduleRecord {
    /// The point in time behind which occurrences are still to come.
    pub fn anchor(&self) -> Timestamp {
        self.last_occurrence.unwrap_or(self.created_at)
    }

    /// When the server has to look at it; `None` while it starts nothing.
    pub fn due_at(&self) -> Option<Timestamp> {
        (self.status == ScheduleStatus::Active && self.next_run_at != Timestamp::MAX).then_some(self.next_run_at)
    }

    /// The reference id of the run of an occurrence.
    pub fn run_reference(&self, occurrence: Timestamp) -> String {
        format!("schedule:{}:{}", self.id, occurrence.as_millis())
    }
}

/// Which schedules are listed. Everything that is given has to fit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ScheduleFilter {
    /// One of these; empty is any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub statuses: Vec<ScheduleStatus>,
    /// This one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<ScheduleId>,
    /// The one with this reference id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference_id: Option<String>,
    /// Of one of these workflows, each in the given version or, with `None`, in any; empty is all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub workflows: Vec<(Name, Option<Name>)>,
}

impl ScheduleFilter {
    /// Whether a schedule fits.
    pub fn matches(&self, record: &ScheduleRecord) -> bool {
        let workflow = &record.workflow;
        (self.statuses.is_empty() || self.statuses.contains(&record.status))
            && self.id.is_none_or(|id| id == record.id)
            && (self.reference_id.is_none() || self.reference_id == record.reference_id)
            && (self.workflows.is_empty()
                || self.workflows.iter().any(|(name, version)| {
                    *name == workflow.name && version.as_ref().is_none_or(|version| *version == workflow.version)
                }))
    }
}

/// A part of a list of schedules.
#[derive(Clone, Debug, PartialEq)]
pub struct SchedulePage {
    /// The schedules, the oldest first.
    pub schedules: Vec<ScheduleRecord>,
    /// How many fit the filter in all.
    pub total: u64,
}
