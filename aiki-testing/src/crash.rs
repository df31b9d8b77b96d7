//! Where a worker dies.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aiki_core::replay::Close;
use aiki_core::server_client::ClaimedRun;
use aiki_core::{ExecutionScope, Outcome, Report, RunId, TaskId, Transition, WorkflowExecutor};
use async_trait::async_trait;
use tokio::sync::watch;

/// A moment at which all workers of an environment die. Reports and effects are counted from 1, over the
/// whole environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum CrashPoint {
    /// A report was about to be sent: what was done since the last one is on no record.
    BeforeReport(usize),
    /// A report is on record, and its worker never hears so.
    BeforeAnswer(usize),
    /// A report is on record, its worker has the answer and goes on, and dies before it can report again.
    AfterAnswer(usize),
    /// A task's body is through, and its result was not reported.
    AfterEffect(usize),
}

impl fmt::Display for CrashPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CrashPoint::BeforeReport(report) => write!(f, "before report {report} was written"),
            CrashPoint::BeforeAnswer(report) => write!(f, "after report {report} was written, before its answer"),
            CrashPoint::AfterAnswer(report) => write!(f, "after the answer to report {report}"),
            CrashPoint::AfterEffect(effect) => write!(f, "between effect {effect} and its record"),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    /// Crashes so far.
    crashes: u64,
    armed: Option<CrashPoint>,
    /// Passes under way, each with the crashes before it.
    passes: HashMap<(RunId, u64), u64>,
    reports: Vec<String>,
    effects: Vec<String>,
    recorded: HashSet<TaskId>,
    repeated: Vec<String>,
}

/// Lets workers die, and keeps count of what could be a point to die at. Clones are one switch.
#[derive(Clone, Debug)]
pub(crate) struct Switch {
    state: Arc<Mutex<State>>,
    crashes: watch::Sender<u64>,
}

/// What becomes of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Goes,
    /// Its worker is dead, or dies now.
    Lost,
    DiesUnanswered,
    DiesAnswered,
}

impl Default for Switch {
    fn default() -> Self {
        Self { state: Arc::default(), crashes: watch::Sender::new(0) }
    }
}

impl Switch {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn arm(&self, point: CrashPoint) {
        self.lock().armed = Some(point);
    }

    /// Whether the armed point was reached.
    pub(crate) fn has_fired(&self) -> bool {
        self.lock().armed.is_none()
    }

    /// All workers die now: what they hold is held by nobody until its lease lapses.
    pub(crate) fn crash(&self) {
        let crashes = {
            let mut state = self.lock();
            state.crashes += 1;
            state.crashes
        };
        self.crashes.send_replace(crashes);
    }

    /// Changes with every crash.
    pub(crate) fn crashes(&self) -> watch::Receiver<u64> {
        self.crashes.subscribe()
    }

    fn fire(&self, point: CrashPoint) -> bool {
        let mut state = self.lock();
        let fires = state.armed == Some(point);
        if fires {
            state.armed = None;
        }
        drop(state);
        if fires {
            self.crash();
        }
        fires
    }

    /// A report is about to be sent.
    pub(crate) fn sending(&self, report: &Report) -> Fate {
        let number = {
            let mut state = self.lock();
            let born = state.passes.get(&(report.run, report.epoch)).copied();
            if born.is_some_and(|born| born < state.crashes) {
                return Fate::Lost;
            }
            state.reports.push(describe(&report.transitions));
            state.reports.len()
        };
        if self.fire(CrashPoint::BeforeReport(number)) {
            return Fate::Lost;
        }
        match self.lock().armed {
            Some(CrashPoint::BeforeAnswer(armed)) if armed == number => Fate::DiesUnanswered,
            Some(CrashPoint::AfterAnswer(armed)) if armed == number => Fate::DiesAnswered,
            _ => Fate::Goes,
        }
    }

    /// The report of this fate is on record.
    pub(crate) fn written(&self, report: &Report, fate: Fate) {
        {
            let mut state = self.lock();
            for transition in &report.transitions {
                if let Transition::TaskCompleted { id, .. } | Transition::TaskFailed { id, .. } = transition {
                    state.recorded.insert(*id);
                }
            }
            if matches!(fate, Fate::DiesUnanswered | Fate::DiesAnswered) {
                state.armed = None;
            }
        }
        if matches!(fate, Fate::DiesUnanswered | Fate::DiesAnswered) {
            self.crash();
        }
    }

    /// A task's body begins.
    pub(crate) fn begins(&self, task: TaskId, name: &str) {
        let mut state = self.lock();
        if state.recorded.contains(&task) {
            state.repeated.push(name.to_owned());
        }
    }

    /// A task's body is through. Whether its worker dies now.
    pub(crate) fn effect(&self, name: &str) -> bool {
        let number = {
            let mut state = self.lock();
            state.effects.push(format!("task `{name}`"));
            state.effects.len()
        };
        self.fire(CrashPoint::AfterEffect(number))
    }

    /// What the reports and the effects so far were.
    pub(crate) fn seen(&self) -> (Vec<String>, Vec<String>) {
        let state = self.lock();
        (state.reports.clone(), state.effects.clone())
    }

    /// Tasks whose bodies ran although their results were on record.
    pub(crate) fn repeated(&self) -> Vec<String> {
        self.lock().repeated.clone()
    }
}

/// What a report says, in few words.
pub(crate) fn describe(transitions: &[Transition]) -> String {
    let parts: Vec<String> = transitions
        .iter()
        .map(|transition| match transition {
            Transition::TaskOpened { name, .. } => format!("task `{name}` opened"),
            Transition::TaskRestarted { .. } => "a task goes on".to_owned(),
            Transition::TaskParked { .. } => "a task waits for its next attempt".to_owned(),
            Transition::TaskCompleted { .. } => "a task completed".to_owned(),
            Transition::TaskFailed { .. } => "a task failed".to_owned(),
            Transition::SleepOpened { name, .. } => format!("sleep `{name}` began"),
            Transition::SleepCompleted { .. } => "a sleep is over".to_owned(),
            Transition::SleepDropped { .. } => "a sleep was dropped".to_owned(),
            Transition::TimeRead { .. } => "the time was read".to_owned(),
            Transition::TaskProgressed { .. } => "a task told how far it is".to_owned(),
            Transition::WaitOpened { .. } => "a wait began".to_owned(),
            Transition::WaitCompleted { .. } => "a wait is over".to_owned(),
            Transition::WaitTimedOut { .. } => "a wait took too long".to_owned(),
            Transition::WaitDropped { .. } => "a wait was dropped".to_owned(),
            Transition::ChildOpened { start, .. } => format!("child `{}` started", start.workflow),
            Transition::ChildCancelled { .. } => "a child is cancelled".to_owned(),
            Transition::Suspended => "the run waits".to_owned(),
            Transition::ContinuedAsNew { .. } => "the run continues as new".to_owned(),
            Transition::Completed { .. } => "the run completed".to_owned(),
            Transition::Failed { .. } => "the run failed".to_owned(),
            Transition::RetryScheduled { .. } => "the run is tried again".to_owned(),
        })
        .collect();
    parts.join(", ")
}

/// Drops what it executes when its worker dies.
pub(crate) struct Mortal {
    pub(crate) inner: Arc<dyn WorkflowExecutor>,
    pub(crate) switch: Switch,
}

#[async_trait]
impl WorkflowExecutor for Mortal {
    async fn execute(&self, claim: ClaimedRun, scope: ExecutionScope) -> Outcome {
        let pass = (claim.record.id, claim.epoch);
        let mut crashes = self.switch.crashes.subscribe();
        let born = {
            let mut state = self.switch.lock();
            let born = state.crashes;
            state.passes.insert(pass, born);
            born
        };
        let outcome = tokio::select! {
            biased;
            _ = crashes.wait_for(|crashes| *crashes > born) => Outcome::Closed(Close::Lost),
            outcome = self.inner.execute(claim, scope) => outcome,
        };
        self.switch.lock().passes.remove(&pass);
        outcome
    }
}
