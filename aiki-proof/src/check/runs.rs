//! Runs as the server shows them in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aiki_core::run::record::{SleepState, TransitionChange, TransitionRecord};
use aiki_core::run::{QueuedReason, RunState, TaskState};
use aiki_core::{RunId, TaskId, Timestamp};

use super::Case;
use crate::end::Shown;
use crate::history::{Fault, What};

impl Case<'_> {
    /// I1, I2, I4 and I13 by transitions, I7, I8, I14, I17 by results.
    pub(super) fn runs(&mut self) {
        self.creations();
        let clocks_agree = !self.history.iter().any(|happened| {
            let What::Fault { fault, .. } = &happened.what else { return false };
            matches!(fault, Fault::ServerClockForward | Fault::ServerClockBack | Fault::WorkerClockSkewed)
        });
        let calm = !self.history.iter().any(|happened| {
            let What::Fault { fault, .. } = &happened.what else { return false };
            matches!(fault, Fault::ServerClockForward | Fault::ServerClockBack | Fault::ServerRestarted)
        });
        let underway = self.underway();
        let mut shown: Vec<(RunId, Shown)> = Vec::new();
        for (run, one) in &self.end.runs {
            match one {
                Ok(one) => shown.push((*run, one.clone())),
                Err(error) => {
                    let text = format!("it cannot be shown: {error}");
                    self.found.push(super::Violation { invariant: super::Invariant(1), run: Some(*run), text });
                }
            }
        }
        for (run, shown) in &shown {
            self.rest(*run, shown);
            self.fold(*run, shown);
            self.timers(*run, shown, calm);
            if clocks_agree {
                self.waited_out(*run, shown, underway.get(run).copied().unwrap_or_default());
            }
            if let RunState::Failed { cause } = &shown.record.state
                && let Some(error) = cause.error()
                && error.name.contains("Diverge")
            {
                self.broken(17, *run, format!("it failed as diverged: {}", error.message));
            }
        }
    }

    fn creations(&mut self) {
        let mut keys: BTreeMap<&str, RunId> = BTreeMap::new();
        for happened in self.history {
            let What::Created { run, key } = &happened.what else { continue };
            if !self.end.runs.contains_key(run) {
                self.broken(1, *run, "its creation was acknowledged, and the server does not show it".into());
            }
            if let Some(key) = key {
                let first = *keys.entry(key).or_insert(*run);
                if first != *run {
                    self.broken(7, *run, format!("the key `{key}` was answered with run {first} before"));
                }
            }
        }
    }

    /// Where a run may rest.
    fn rest(&mut self, run: RunId, shown: &Shown) {
        let overdue = |at: Timestamp| self.end.now.since(at) > self.bounds.late;
        let state = &shown.record.state;
        let stuck = match state {
            RunState::Queued { .. } | RunState::Running => true,
            RunState::Scheduled { scheduled_at, .. } => overdue(*scheduled_at),
            RunState::Sleeping { wakeup_at, .. } => overdue(*wakeup_at),
            RunState::AwaitingRetry { next_attempt_at, .. } => overdue(*next_attempt_at),
            RunState::AwaitingEvent { timeout_at, .. } => timeout_at.is_some_and(overdue),
            RunState::AwaitingChild { child, timeout_at, .. } => {
                let ended = self.end.runs.get(child).and_then(|child| child.as_ref().ok());
                timeout_at.is_some_and(overdue) || ended.is_some_and(|child| child.record.state.is_terminal())
            }
            RunState::Paused
            | RunState::Stalled
            | RunState::Cancelled { .. }
            | RunState::Completed { .. }
            | RunState::Failed { .. } => false,
        };
        if stuck {
            self.broken(2, run, format!("it is left {}: {state:?}", state.status()));
        }
    }

    /// The transitions in their order lead to what the record says.
    fn fold(&mut self, run: RunId, shown: &Shown) {
        let mut state = None;
        let mut tasks: BTreeMap<TaskId, &TaskState> = BTreeMap::new();
        let mut results: BTreeSet<TaskId> = BTreeSet::new();
        let mut cancelled = false;
        for transition in &shown.transitions {
            match &transition.change {
                TransitionChange::Run(next) => {
                    cancelled |= matches!(next, RunState::Cancelled { .. });
                    state = Some(next);
                }
                TransitionChange::Task(task, next) => {
                    let ended = matches!(next, TaskState::Completed { .. } | TaskState::Failed { .. });
                    if ended && !results.insert(*task) {
                        self.broken(4, run, format!("task {task} has two results among the transitions"));
                    }
                    if cancelled && matches!(next, TaskState::Completed { .. }) {
                        self.broken(13, run, format!("task {task} completed after the cancellation"));
                    }
                    tasks.insert(*task, next);
                }
            }
        }
        if state != Some(&shown.record.state) {
            self.broken(8, run, format!("it is {:?}, its transitions lead to {state:?}", shown.record.state));
        }
        for task in &shown.record.tasks {
            let discarded = matches!(task.state, TaskState::Discarded { .. });
            if !discarded && tasks.get(&task.id).is_none_or(|last| **last != task.state) {
                let last = tasks.get(&task.id);
                self.broken(8, run, format!("task {} is {:?}, its transitions lead to {last:?}", task.id, task.state));
            }
        }
        let ascend = shown.transitions.windows(2).all(|pair| pair[0].id < pair[1].id);
        if !ascend {
            self.broken(8, run, "the ids of its transitions do not ascend".into());
        }
    }

    /// What was waited for until a time went on not before it, and not long after it.
    fn timers(&mut self, run: RunId, shown: &Shown, calm: bool) {
        for pair in shown.transitions.windows(2) {
            let [before, after] = pair else { continue };
            let Some(due) = due(before, after) else { continue };
            let at = after.created_at;
            if at < due {
                self.broken(14, run, format!("what was due at {due} went on at {at}"));
            }
            if calm && at.since(due) > self.bounds.late {
                self.broken(14, run, format!("what was due at {due} went on only at {at}"));
            }
        }
    }

    /// How long the slowest report of each run took from its first sending until the server had it.
    fn underway(&self) -> BTreeMap<RunId, Duration> {
        let (mut sent, mut slowest) = (BTreeMap::new(), BTreeMap::new());
        for happened in self.history {
            match &happened.what {
                What::Sent { run, epoch, seq, .. } => {
                    sent.entry((*run, *epoch, *seq)).or_insert(happened.at);
                }
                What::Reported { run, epoch, seq, .. } => {
                    let Some(sent) = sent.remove(&(*run, *epoch, *seq)) else { continue };
                    let took = Duration::from_millis(happened.at.saturating_sub(sent));
                    let slowest: &mut Duration = slowest.entry(*run).or_default();
                    *slowest = took.max(*slowest);
                }
                _ => {}
            }
        }
        slowest
    }

    /// What a worker waits out by itself, beside the body of another task, it waits out by its own clock, from
    /// its decision on. It is dated by when the server heard of it: `underway` may have passed until then.
    fn waited_out(&mut self, run: RunId, shown: &Shown, underway: Duration) {
        let early = self.bounds.early + underway;
        let mut waiting: BTreeMap<TaskId, Timestamp> = BTreeMap::new();
        for transition in &shown.transitions {
            let TransitionChange::Task(task, state) = &transition.change else { continue };
            match state {
                TaskState::AwaitingRetry { next_attempt_at, .. } => {
                    waiting.insert(*task, *next_attempt_at);
                }
                TaskState::Running { .. } => {
                    if let Some(due) = waiting.remove(task).filter(|due| due.since(transition.created_at) > early) {
                        let at = transition.created_at;
                        self.broken(14, run, format!("task {task} was due at {due} and was repeated at {at}"));
                    }
                }
                _ => {}
            }
        }
        for sleep in &shown.record.sleeps {
            if let SleepState::Completed { duration_ms, completed_at } = sleep.state
                && duration_ms.saturating_sub(completed_at.since(sleep.opened_at).as_millis() as u64)
                    > early.as_millis() as u64
            {
                let (name, from) = (&sleep.name, sleep.opened_at);
                let text = format!("the sleep `{name}` of {duration_ms} ms lasted from {from} to {completed_at}");
                self.broken(14, run, text);
            }
        }
    }
}

/// The time that a run waited for when the server moved it on by itself.
fn due(before: &TransitionRecord, after: &TransitionRecord) -> Option<Timestamp> {
    let (TransitionChange::Run(before), TransitionChange::Run(RunState::Queued { reason })) =
        (&before.change, &after.change)
    else {
        return None;
    };
    match (before, reason) {
        (RunState::Sleeping { wakeup_at, .. }, QueuedReason::Wakeup) => Some(*wakeup_at),
        (RunState::AwaitingRetry { next_attempt_at, .. }, QueuedReason::Retry) => Some(*next_attempt_at),
        (RunState::AwaitingEvent { timeout_at, .. }, QueuedReason::EventWaitTimeout) => *timeout_at,
        (RunState::AwaitingChild { timeout_at, .. }, QueuedReason::ChildWorkflowWaitTimeout) => *timeout_at,
        (RunState::Scheduled { scheduled_at, .. }, QueuedReason::New) => Some(*scheduled_at),
        _ => None,
    }
}
