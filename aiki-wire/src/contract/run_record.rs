//! A whole run as it is answered.

use std::collections::BTreeMap;

use aiki_core::hash::InputHash;
use aiki_core::id::{ScheduleId, TransitionId};
use aiki_core::name::{Name, Source};
use aiki_core::payload::present;
use aiki_core::rank::Priority;
use aiki_core::run::status::TaskStatus;
use aiki_core::run::{ChildRecord, RunOptions, RunRecord, RunState, SleepRecord, SleepState};
use aiki_core::{Payload, RunId, Timestamp};
use serde::{Deserialize, Serialize};

use super::run_waits::{ChildInfo, EventWait, event_waits};
use super::task_answer::TaskInfo;

/// What `workflowRun.getByIdV1` and `getByReferenceIdV1` answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FoundRun {
    /// The run.
    pub run: WorkflowRunRecord,
}

/// A run. The lists are in the order in which their elements began, those of events in the order of arrival.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkflowRunRecord {
    /// Its id.
    pub id: RunId,
    /// The workflow's name.
    pub name: Name,
    /// The workflow's version.
    pub version_id: Name,
    /// Whose workflow it is.
    pub source: Source,
    /// When it was created.
    pub created_at: Timestamp,
    /// Grows by one with every transition of the run.
    pub revision: u64,
    /// The id of the latest transition of the run.
    pub state_transition_id: TransitionId,
    /// The input; `null` when there is none.
    #[serde(default, deserialize_with = "present")]
    pub input: Option<Payload>,
    /// The hash of the input.
    pub input_hash: InputHash,
    /// The caller's own id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference_id: Option<String>,
    /// The caller's options; absent when the caller sent none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<RunOptions>,
    /// Attempts of the run, the first included.
    pub attempts: u64,
    /// The state.
    pub state: RunState,
    /// The tasks that were not discarded, by address.
    pub tasks: BTreeMap<String, Vec<TaskInfo>>,
    /// The sleeps, by name.
    pub sleeps: BTreeMap<String, Vec<Sleep>>,
    /// The events and the waits that took too long, by the event's name.
    pub event_waits: BTreeMap<String, Vec<EventWait>>,
    /// The children, by address.
    pub child_workflow_runs: BTreeMap<String, Vec<ChildInfo>>,
    /// The run that started this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_workflow_run_id: Option<RunId>,
    /// The schedule that started this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule_id: Option<ScheduleId>,
    /// How urgent it is; absent is normal. Not in the contract.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// When it fails unless it has ended. Not in the contract.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
}

/// One sleep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sleep {
    /// Where it stands.
    pub status: SleepStatus,
    /// Until when it lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wakeup_at: Option<Timestamp>,
    /// How long it lasted, never less than was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// When it was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Timestamp>,
    /// When it was cut short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancelled_at: Option<Timestamp>,
}

/// Where a sleep stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "named as what they are")]
pub enum SleepStatus {
    Sleeping,
    Completed,
    Cancelled,
}

impl From<&SleepRecord> for Sleep {
    fn from(sleep: &SleepRecord) -> Self {
        let status = match sleep.state {
            SleepState::Sleeping { .. } => SleepStatus::Sleeping,
            SleepState::Completed { .. } => SleepStatus::Completed,
            SleepState::Cancelled { .. } => SleepStatus::Cancelled,
        };
        let mut answer = Self { status, wakeup_at: None, duration_ms: None, completed_at: None, cancelled_at: None };
        match sleep.state {
            SleepState::Sleeping { wakeup_at } => answer.wakeup_at = Some(wakeup_at),
            SleepState::Completed { duration_ms, completed_at } => {
                (answer.duration_ms, answer.completed_at) = (Some(duration_ms), Some(completed_at));
            }
            SleepState::Cancelled { cancelled_at } => answer.cancelled_at = Some(cancelled_at),
        }
        answer
    }
}

impl From<RunRecord> for WorkflowRunRecord {
    fn from(record: RunRecord) -> Self {
        let event_waits = event_waits(&record);
        let mut child_workflow_runs: BTreeMap<String, Vec<ChildInfo>> = BTreeMap::new();
        let mut children: Vec<_> = record.children.iter().filter_map(|child| Some((child.run?, child))).collect();
        children.sort_by_key(|(run, _)| *run);
        for (run, child) in children {
            child_workflow_runs.entry(address(child)).or_default().push(ChildInfo::of(run, child, &record.waits));
        }
        let mut sleeps: BTreeMap<String, Vec<Sleep>> = BTreeMap::new();
        for sleep in &record.sleeps {
            sleeps.entry(sleep.name.clone()).or_default().push(sleep.into());
        }
        let mut tasks: BTreeMap<String, Vec<TaskInfo>> = BTreeMap::new();
        for task in record.tasks.into_iter().filter(|task| task.state.status() != TaskStatus::Discarded) {
            tasks.entry(format!("{}:{}", task.name, task.input_hash)).or_default().push(task.into());
        }
        Self {
            id: record.id,
            name: record.workflow.name,
            version_id: record.workflow.version,
            source: record.workflow.source,
            created_at: record.created_at,
            revision: record.revision,
            state_transition_id: record.state_transition_id,
            input: record.input,
            input_hash: record.input_hash,
            reference_id: record.reference_id,
            options: record.options,
            attempts: record.attempts,
            state: record.state,
            tasks,
            sleeps,
            event_waits,
            child_workflow_runs,
            parent_workflow_run_id: record.parent,
            schedule_id: record.schedule,
            priority: Some(record.priority).filter(|priority| *priority != Priority::default()),
            deadline: record.deadline,
        }
    }
}

/// A child's address. Nothing is escaped: the contract has it so.
fn address(child: &ChildRecord) -> String {
    let last = child.reference_id.as_deref().unwrap_or(child.input_hash.as_str());
    format!("{}:{}:{last}", child.workflow.name, child.workflow.version)
}
