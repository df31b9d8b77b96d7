//! Schedules: what is asked and what is answered.

use std::num::NonZeroU64;

use aiki_core::name::{Name, Source, WorkflowKey};
use aiki_core::payload::present;
use aiki_core::run::{Reference, RunOptions};
use aiki_core::schedule::{ActivateSchedule, ScheduleRecord, ScheduleSpec, ScheduleStatus, Timing};
use aiki_core::{Payload, ScheduleId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::common::Hashes;
use super::request::request;
use crate::read::{At, Fields, Invalid, Read, Str1, WholeAbove};

request! {
    /// `schedule.activateV1`.
    ActivateV1 {
        /// The name of the workflow.
        need name: Str1 = "workflowName",
        /// Its version.
        need version: Str1 = "workflowVersionId",
        /// The input of the runs, raw.
        may input: Payload = "workflowRunInput",
        /// The hash of the input.
        need hash: Hashes = "workflowRunInputHash",
        /// When runs are started.
        need spec: ScheduleSpec = "spec",
        /// More about the schedule.
        may options: ScheduleOptions = "options",
        /// Options of the runs.
        may run_options: RunOptions = "workflowRunOptions",
    }

    /// More about a schedule.
    ScheduleOptions {
        /// The caller's own id for it.
        may reference: Reference = "reference",
    }

    /// `schedule.getByReferenceIdV1`.
    ByReference {
        /// The caller's own id for it.
        need reference: Str1 = "referenceId",
    }

    /// `schedule.listV1`.
    ListSchedules {
        /// At most so many; 50 unless given.
        may limit: NonZeroU64 = "limit",
        /// Without the first ones.
        may offset: u64 = "offset",
        /// Only those that fit.
        may filters: ScheduleFilters = "filters",
    }

    /// Which schedules are listed. Everything that is given has to fit.
    ScheduleFilters {
        /// Those in one of these; empty is any.
        may status: Vec<ScheduleStatus> = "status",
        /// This one.
        may id: Str1 = "id",
        /// The one with this reference id.
        may reference: Str1 = "referenceId",
        /// Those of one of these.
        may workflows: Vec<ScheduledWorkflow> = "workflows",
    }

    /// A workflow whose schedules are listed.
    ScheduledWorkflow {
        /// Its name.
        need name: Str1 = "name",
        /// Of this version only.
        may version: Str1 = "versionId",
        /// Whose it is.
        need source: Source = "source",
    }
}

impl Read for ScheduleSpec {
    fn read(raw: &RawValue, at: &At<'_>) -> Result<Self, Invalid> {
        let fields = Fields::open(raw, at)?;
        let timing = match fields.need::<String>("type")?.as_str() {
            "interval" => Timing::Interval { every_ms: fields.need::<WholeAbove<1>>("everyMs")?.0 },
            "cron" => Timing::Cron {
                expression: fields.need::<Str1>("expression")?.into(),
                timezone: fields.may("timezone")?,
            },
            _ => return Err(fields.wrong("type", "one of interval, cron")),
        };
        Ok(Self { timing, overlap: fields.may("overlapPolicy")? })
    }
}

impl ActivateV1 {
    /// The request as core knows it.
    pub fn into_core(self) -> ActivateSchedule {
        let workflow = WorkflowKey::user(Name::from(self.name), Name::from(self.version));
        let (input_hash, deprecated_hashes) = self.hash.into_parts();
        ActivateSchedule {
            deprecated_hashes,
            reference: self.options.and_then(|options| options.reference),
            options: self.run_options,
            ..ActivateSchedule::new(workflow, self.spec, self.input, input_hash)
        }
    }

    /// The call that asks for this; `None` when a name or hash in it is empty.
    pub fn of(request: ActivateSchedule) -> Option<Self> {
        let text = |hash: &aiki_core::InputHash| Str1::new(hash.as_str());
        let deprecated: Vec<_> = request.deprecated_hashes.iter().filter_map(text).collect();
        Some(Self {
            name: Str1::new(request.workflow.name.as_str())?,
            version: Str1::new(request.workflow.version.as_str())?,
            input: request.input,
            hash: Hashes {
                value: text(&request.input_hash)?,
                deprecated: Some(deprecated).filter(|list| !list.is_empty()),
            },
            spec: request.spec,
            options: Some(ScheduleOptions { reference: request.reference }),
            run_options: request.options,
        })
    }
}

/// A schedule as it is answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleAnswer {
    /// Its id.
    pub id: ScheduleId,
    /// Whose workflow its runs execute.
    pub workflow_source: Source,
    /// The workflow's name.
    pub workflow_name: Name,
    /// The workflow's version.
    pub workflow_version_id: Name,
    /// Whether it starts runs.
    pub status: ScheduleStatus,
    /// When it starts them.
    pub spec: ScheduleSpec,
    /// The input of its runs; `null` when there is none.
    #[serde(default, deserialize_with = "present")]
    pub workflow_run_input: Option<Payload>,
    /// The caller's own id for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference_id: Option<String>,
    /// Options of its runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow_run_options: Option<RunOptions>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// The latest occurrence that had a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_occurrence: Option<Timestamp>,
    /// When it is due next.
    pub next_run_at: Timestamp,
}

impl From<ScheduleRecord> for ScheduleAnswer {
    fn from(record: ScheduleRecord) -> Self {
        Self {
            id: record.id,
            workflow_source: record.workflow.source,
            workflow_name: record.workflow.name,
            workflow_version_id: record.workflow.version,
            status: record.status,
            spec: record.spec,
            workflow_run_input: record.input,
            reference_id: record.reference_id,
            workflow_run_options: record.options,
            created_at: record.created_at,
            updated_at: record.updated_at,
            last_occurrence: record.last_occurrence,
            next_run_at: record.next_run_at,
        }
    }
}

/// What `schedule.activateV1` answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Activated {
    /// The schedule.
    pub schedule: ScheduleAnswer,
}

/// A schedule and its runs, counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CountedSchedule {
    /// The schedule.
    pub schedule: ScheduleAnswer,
    /// Runs that it has made.
    pub run_count: u64,
}

impl From<ScheduleRecord> for CountedSchedule {
    fn from(record: ScheduleRecord) -> Self {
        Self { run_count: record.run_count, schedule: record.into() }
    }
}

/// What `schedule.listV1` answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScheduleList {
    /// The schedules, the oldest first.
    pub schedules: Vec<CountedSchedule>,
    /// How many fit in all.
    pub total: u64,
}
