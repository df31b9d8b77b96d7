//! Creating a run.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::hash::InputHash;
use crate::id::RunId;
use crate::name::{Name, WorkflowKey};
use crate::payload::{Payload, present};
use crate::rank::Priority;
use crate::run::head::{ConcurrencyKey, RunHead, TaskCounts};
use crate::run::history::{Entry, HistoryEntry};
use crate::run::options::{ConflictPolicy, Reference, RunOptions};
use crate::run::state::RunState;
use crate::run::status::{QueuedReason, ScheduledReason};
use crate::run::wait::Ordinals;
use crate::time::{Timestamp, millis};
use crate::trace::TraceParent;

/// When a run fails because it has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Deadline {
    /// At this time, by the server's clock.
    At(Timestamp),
    /// So long after it was created.
    #[serde(rename = "withinMs", with = "millis")]
    Within(Duration),
}

impl Deadline {
    /// The deadline of a run that is created at `now`.
    pub fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Deadline::At(at) => at,
            Deadline::Within(limit) => now.after(limit),
        }
    }
}

/// A request for a new run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateRun {
    /// The code to execute.
    pub workflow: WorkflowKey,
    /// The input, raw.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub input: Option<Payload>,
    /// Hash of the input.
    pub input_hash: InputHash,
    /// Hashes of the same input by older hashers; they count as equal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deprecated_hashes: Vec<InputHash>,
    /// The caller's own id for the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Reference>,
    /// Options that stay with the run; `None` when the caller sent none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<RunOptions>,
    /// How urgent it is.
    #[serde(default)]
    pub priority: Priority,
    /// How long to wait before the run is ready.
    #[serde(default, rename = "delayMs", with = "millis")]
    pub delay: Duration,
    /// When it fails unless it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Deadline>,
    /// With whom it shares a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<ConcurrencyKey>,
    /// The trace from which it is started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceParent>,
}

impl CreateRun {
    /// A run of `workflow` with no options.
    pub fn new(workflow: WorkflowKey, input: Option<Payload>, input_hash: InputHash) -> Self {
        Self {
            workflow,
            input,
            input_hash,
            deprecated_hashes: Vec::new(),
            reference: None,
            options: None,
            priority: Priority::default(),
            delay: Duration::ZERO,
            deadline: None,
            concurrency: None,
            trace: None,
        }
    }
}

/// Plans a new run: scheduled, and queued in the same write when its time has come.
pub fn create(
    request: &CreateRun,
    id: RunId,
    namespace: &Name,
    now: Timestamp,
    entries: &mut Vec<HistoryEntry>,
) -> RunHead {
    let scheduled_at = now.after(request.delay);
    let state = RunState::Scheduled { scheduled_at, reason: ScheduledReason::New };
    let mut head = RunHead {
        id,
        namespace: namespace.clone(),
        workflow: request.workflow.clone(),
        reference_id: request.reference.as_ref().map(|reference| reference.id.clone()),
        schedule: None,
        input_hash: request.input_hash.clone(),
        options: request.options.clone(),
        priority: request.priority,
        created_at: now,
        started_at: None,
        ended_at: None,
        state: state.clone(),
        revision: 0,
        attempts: 1,
        epoch: 0,
        lease: None,
        last_report: None,
        tasks_opened: 0,
        open_tasks: Vec::new(),
        sleeps_opened: 0,
        counts: TaskCounts::default(),
        transitions: 1,
        last_transition: 0,
        settled: 0,
        seen: None,
        parked: Vec::new(),
        deliveries: 0,
        announce: None,
        waits_opened: 0,
        children_opened: 0,
        open_children: 0,
        signals: 0,
        base: Ordinals::default(),
        settled_before: 0,
        history_len: 2,
        first_page: 0,
        parent: None,
        listeners: Vec::new(),
        depth: 0,
        deadline: request.deadline.map(|deadline| deadline.at(now)),
        checkpoints: Vec::new(),
        concurrency: request.concurrency.clone(),
        held_back: false,
        trace: request.trace.clone(),
        events: 0,
        plain: false,
    };
    entries.push(HistoryEntry { at: now, entry: Entry::Created { input: request.input.clone() } });
    entries.push(HistoryEntry { at: now, entry: Entry::Run { attempt: 1, state } });
    if request.delay.is_zero() {
        let queued = head.transition(RunState::Queued { reason: QueuedReason::New }, now, entries);
        debug_assert!(queued.is_ok(), "a new run may be queued");
    }
    head
}

/// What a reference id that is already taken means for a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReferenceDecision {
    /// The existing run is the answer.
    Existing,
    /// The start is refused: the id belongs to a run with another input.
    Conflict,
}

/// Judges a start whose reference id is already taken by a run of the same workflow version.
pub fn judge_reference(existing: &RunHead, request: &CreateRun) -> ReferenceDecision {
    let same_input =
        existing.input_hash == request.input_hash || request.deprecated_hashes.contains(&existing.input_hash);
    let policy = request.reference.as_ref().map(|reference| reference.conflict_policy).unwrap_or_default();
    match policy {
        _ if same_input => ReferenceDecision::Existing,
        ConflictPolicy::ReturnExisting => ReferenceDecision::Existing,
        ConflictPolicy::Error => ReferenceDecision::Conflict,
    }
}
