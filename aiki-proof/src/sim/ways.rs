//! The ways to recover, and which of them a history has taken.

use std::collections::{BTreeMap, BTreeSet};

use aiki_core::run::record::TransitionChange;
use aiki_core::run::{QueuedReason, RunState, TaskState};

use crate::end::End;
use crate::history::{AttemptEnd, Happened, What};

/// What has to have happened at least once over many seeds.
pub const WAYS: [&str; 22] = [
    "a claim was given back",
    "a delivery met a live claim",
    "a delivery was settled because the run was done",
    "a fenced body was dropped",
    "a heartbeat heard that its claim is gone",
    "a lapsed claim was recovered",
    "a report under an old claim was refused",
    "a report was sent again and got the same answer",
    "a retry of a run",
    "a retry of a task",
    "a run began anew",
    "a run failed at its deadline",
    "a run was announced again",
    "a run was claimed without the transport",
    "a run was paused and resumed",
    "a start found its run again",
    "a wait timed out",
    "a worker stopped cleanly",
    "an attempt was repeated after a crash",
    "children were cancelled after their parent",
    "subscribed again after the transport had lost everything",
    "the run of a schedule",
];

pub(super) fn taken(history: &[Happened], end: &End) -> BTreeSet<&'static str> {
    let mut ways = BTreeSet::new();
    let mut reports = BTreeSet::new();
    let mut created = BTreeSet::new();
    let mut announced = BTreeSet::new();
    let mut began = BTreeMap::new();
    for happened in history {
        match &happened.what {
            What::Reported { run, epoch, seq, .. } if !reports.insert((*run, *epoch, *seq)) => {
                ways.insert("a report was sent again and got the same answer");
            }
            What::Created { run, .. } if !created.insert(*run) => {
                ways.insert("a start found its run again");
            }
            What::Granted { run, .. } => {
                announced.remove(run);
            }
            What::Published { run } if !announced.insert(*run) => {
                ways.insert("a run was announced again");
            }
            What::Done { .. } => {
                ways.insert("a delivery was settled because the run was done");
            }
            What::Ended { how: AttemptEnd::Dropped, .. } => {
                ways.insert("a fenced body was dropped");
            }
            What::Stopped { .. } => {
                ways.insert("a worker stopped cleanly");
            }
            What::Began { task, attempt, .. } if began.insert((*task, *attempt), ()).is_some() => {
                ways.insert("an attempt was repeated after a crash");
            }
            What::Decided { life, .. } if !life.starts_with('0') => {
                ways.insert("a run began anew");
            }
            _ => {}
        }
    }
    for shown in end.runs.values().flatten() {
        if shown.record.schedule.is_some() {
            ways.insert("the run of a schedule");
        }
        if shown.record.attempts > 1 {
            ways.insert("a retry of a run");
        }
        for transition in &shown.transitions {
            ways.extend(match &transition.change {
                TransitionChange::Run(RunState::Queued { reason: QueuedReason::Recovery }) => {
                    Some("a lapsed claim was recovered")
                }
                TransitionChange::Run(RunState::Queued { reason: QueuedReason::EventWaitTimeout }) => {
                    Some("a wait timed out")
                }
                TransitionChange::Run(RunState::Queued { reason: QueuedReason::Resumption }) => {
                    Some("a run was paused and resumed")
                }
                TransitionChange::Run(RunState::Failed { cause })
                    if cause.error().is_some_and(|error| error.name == "DeadlineExceeded") =>
                {
                    Some("a run failed at its deadline")
                }
                TransitionChange::Task(_, TaskState::AwaitingRetry { .. }) => Some("a retry of a task"),
                _ => None,
            });
        }
    }
    ways
}
