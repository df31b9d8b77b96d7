//! What a run waited for, as it is answered.

use std::collections::BTreeMap;

use aiki_core::hash::InputHash;
use aiki_core::name::Name;
use aiki_core::payload::present;
use aiki_core::run::{ChildRecord, ReceivedEvent, RunRecord, RunState, RunStatus, WaitOn, WaitRecord, WaitState};
use aiki_core::{Payload, RunId, Timestamp};
use serde::{Deserialize, Serialize};

/// An event that arrived, or a wait for one that took too long.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventWait {
    /// Which of both.
    pub status: EventWaitStatus,
    /// What the event carries; `null` when it carries nothing.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub data: Option<Payload>,
    /// When it arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_at: Option<Timestamp>,
    /// The sender's own id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<SentReference>,
    /// When the wait was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timed_out_at: Option<Timestamp>,
}

/// What became of a wait for an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "named as what they are")]
pub enum EventWaitStatus {
    Received,
    Timeout,
}

/// The sender's own id for an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentReference {
    /// The id.
    pub id: String,
}

impl EventWait {
    fn received(event: &ReceivedEvent) -> Self {
        Self {
            status: EventWaitStatus::Received,
            data: event.data.clone().or_else(|| Payload::from_json("null").ok()),
            received_at: Some(event.received_at),
            reference: event.reference_id.clone().map(|id| SentReference { id }),
            timed_out_at: None,
        }
    }

    fn timeout(timed_out_at: Timestamp) -> Self {
        Self {
            status: EventWaitStatus::Timeout,
            data: None,
            received_at: None,
            reference: None,
            timed_out_at: Some(timed_out_at),
        }
    }

    fn at(&self) -> Option<Timestamp> {
        self.received_at.or(self.timed_out_at)
    }
}

/// The events of a run in the order of their arrival, the waits that took too long between them.
pub(super) fn event_waits(record: &RunRecord) -> BTreeMap<String, Vec<EventWait>> {
    let mut lists: BTreeMap<String, Vec<EventWait>> = BTreeMap::new();
    for event in &record.events {
        lists.entry(event.name.clone()).or_default().push(EventWait::received(event));
    }
    for wait in &record.waits {
        let (WaitOn::Event(name), WaitState::TimedOut { timed_out_at }) = (&wait.on, wait.state) else { continue };
        let list = lists.entry(name.clone()).or_default();
        // An event of the same moment came behind it: one that came before would have ended the wait.
        let place = list.iter().position(|entry| {
            entry.status == EventWaitStatus::Received && entry.at().is_some_and(|at| at >= timed_out_at)
        });
        list.insert(place.unwrap_or(list.len()), EventWait::timeout(timed_out_at));
    }
    lists
}

/// A child of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChildInfo {
    /// Its id.
    pub id: RunId,
    /// The workflow's name.
    pub name: Name,
    /// The workflow's version.
    pub version_id: Name,
    /// The hash of its input.
    pub input_hash: InputHash,
    /// The waits for it.
    pub waits: ChildWaits,
}

/// The waits for a child, by the status that was waited for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named as the status")]
pub struct ChildWaits {
    pub cancelled: Vec<ChildWait>,
    pub completed: Vec<ChildWait>,
    pub failed: Vec<ChildWait>,
}

/// One wait for a child.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChildWait {
    /// What became of it.
    pub status: ChildWaitStatus,
    /// When it was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Timestamp>,
    /// How the child ended, which need not be what was waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub child_workflow_run_state: Option<RunState>,
    /// When it took too long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timed_out_at: Option<Timestamp>,
}

/// What became of a wait for a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "named as what they are")]
pub enum ChildWaitStatus {
    Completed,
    Timeout,
}

impl ChildInfo {
    pub(super) fn of(run: RunId, child: &ChildRecord, waits: &[WaitRecord]) -> Self {
        let mut lists = ChildWaits::default();
        for wait in waits.iter().filter(|wait| wait.on == WaitOn::Child(child.ordinal)) {
            let ended = child.ended.as_ref().map(RunState::status);
            let answer = match wait.state {
                WaitState::Completed { .. } => ChildWait {
                    status: ChildWaitStatus::Completed,
                    completed_at: wait.ended_at,
                    child_workflow_run_state: child.ended.clone(),
                    timed_out_at: None,
                },
                WaitState::TimedOut { timed_out_at } => ChildWait {
                    status: ChildWaitStatus::Timeout,
                    completed_at: None,
                    child_workflow_run_state: None,
                    timed_out_at: Some(timed_out_at),
                },
                WaitState::Waiting { .. } | WaitState::Dropped => continue,
            };
            // Workers that know more than the contract wait for whichever end.
            match wait.awaited.or(ended.filter(|_| answer.status == ChildWaitStatus::Completed)) {
                Some(RunStatus::Cancelled) => lists.cancelled.push(answer),
                Some(RunStatus::Failed) => lists.failed.push(answer),
                _ => lists.completed.push(answer),
            }
        }
        Self {
            id: run,
            name: child.workflow.name.clone(),
            version_id: child.workflow.version.clone(),
            input_hash: child.input_hash.clone(),
            waits: lists,
        }
    }
}
