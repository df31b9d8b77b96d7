//! The head of a run: all that is needed to judge a request, of a size that does not grow with the
//! run's history.

use serde::{Deserialize, Serialize};

use super::history::{Entry, HistoryEntry};
use super::options::RunOptions;
use super::plan::DEADLINE_EXCEEDED;
use super::state::{FailureCause, RunState};
use super::status::QueuedReason;
use super::transition::{IllegalTransition, permits_to_server};
use super::wait::Ordinals;
use crate::hash::InputHash;
use crate::id::{RunId, ScheduleId, TransitionId};
use crate::name::{Name, WorkflowKey};
use crate::payload::Payload;
use crate::rank::{Priority, Rank, republish_backoff};
use crate::time::Timestamp;
use crate::trace::TraceParent;

/// A worker's right to write a run, granted by a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The worker, by its unique name of this process start.
    pub owner: Name,
    /// When the claim was granted.
    pub since: Timestamp,
    /// When the claim lapses unless refreshed, by the server's clock.
    pub until: Timestamp,
    /// Whether the worker lives in the server's own process: the claim then ends with that process.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_process: bool,
}

/// A step that waits for its time on the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    /// Which step.
    pub step: ParkedStep,
    /// When it is due; [`Timestamp::MAX`] is never.
    pub due: Timestamp,
}

/// What is parked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParkedStep {
    /// A sleep.
    #[serde(rename_all = "snake_case")]
    Sleep {
        /// Its place among the run's sleeps, from 0.
        ordinal: u32,
        /// Its name.
        name: String,
    },
    /// The task with this ordinal waits for its next attempt.
    Task(u32),
    /// A wait for an event.
    #[serde(rename_all = "snake_case")]
    Event {
        /// Its place among the run's waits, from 0.
        ordinal: u32,
        /// The event's name.
        name: String,
    },
    /// A wait for the end of a child.
    #[serde(rename_all = "snake_case")]
    Child {
        /// Its place among the run's waits, from 0.
        ordinal: u32,
        /// The child's place among the run's children, from 0.
        child: u32,
        /// The child.
        run: RunId,
    },
}

/// A run that is told how another one ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// The run that is told.
    pub run: RunId,
    /// The place of the run that ends among the children of the other, from 0.
    pub child: u32,
}

/// At most so many runs of one key are worked on at the same time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConcurrencyKey {
    /// What the runs have in common.
    pub key: String,
    /// How many of them a worker may hold at the same time, at least 1.
    pub limit: u32,
}

/// The latest checkpoint of a task that has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The task's ordinal.
    pub task: u32,
    /// What the task's body said.
    pub data: Payload,
}

/// How many tasks of a run are in which status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named as the statuses in TaskStatus")]
pub struct TaskCounts {
    pub running: u32,
    pub awaiting_retry: u32,
    pub completed: u32,
    pub failed: u32,
    pub discarded: u32,
}

/// The answer to the last report, kept so that a report whose reply was lost can be sent again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastReport {
    /// The report's number within its epoch.
    pub seq: u64,
    /// The run's revision after it.
    pub revision: u64,
    /// The children that it started, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<Option<RunId>>,
}

/// When a queued run is announced to workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// When the run became ready.
    pub ready_since: Timestamp,
    /// When it is announced again if nobody has taken it.
    pub next: Timestamp,
}

/// The head of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunHead {
    /// The run's id.
    pub id: RunId,
    /// The tenant that the run belongs to.
    pub namespace: Name,
    /// The code that the run executes.
    pub workflow: WorkflowKey,
    /// The caller's own id for the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference_id: Option<String>,
    /// The schedule that started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleId>,
    /// Hash of the input, as told by the caller.
    pub input_hash: InputHash,
    /// The caller's options; absent when the caller sent none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<RunOptions>,
    /// How urgent the run is.
    #[serde(default)]
    pub priority: Priority,
    /// When the run was created.
    pub created_at: Timestamp,
    /// When a worker first took it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended; absent while it goes on, and in runs that ended before this was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// The current state.
    pub state: RunState,
    /// Grows by one with every transition of the run.
    pub revision: u64,
    /// Attempts of the run, the first included.
    pub attempts: u64,
    /// Grows with every claim: the number that a worker's writes must carry.
    pub epoch: u64,
    /// The claim in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
    /// The last report of the current epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_report: Option<LastReport>,
    /// Tasks opened so far; the ordinal of the next one.
    pub tasks_opened: u32,
    /// Tasks that have not ended, by ordinal, ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub open_tasks: Vec<u32>,
    /// Sleeps opened so far; the ordinal of the next one.
    #[serde(default)]
    pub sleeps_opened: u32,
    /// Tasks by status.
    pub counts: TaskCounts,
    /// Transitions recorded so far, of the run and of its tasks.
    pub transitions: u32,
    /// The ordinal of the run's own latest transition.
    pub last_transition: u32,
    /// Steps settled so far.
    pub settled: u64,
    /// Steps that were settled when a worker last reported: a later pass replays up to there in
    /// silence. Absent until the first report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<u64>,
    /// Steps that wait for their time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parked: Vec<Parked>,
    /// Claims since progress was last recorded.
    #[serde(default)]
    pub deliveries: u32,
    /// Set while the run is queued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announce: Option<Announcement>,
    /// Waits begun so far; the ordinal of the next one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub waits_opened: u32,
    /// Children started so far; the ordinal of the next one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub children_opened: u32,
    /// Children that have not ended.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub open_children: u32,
    /// Events received and children ended so far.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub signals: u32,
    /// What was counted when the handler last continued as new.
    #[serde(default, skip_serializing_if = "Ordinals::is_zero")]
    pub base: Ordinals,
    /// Steps that were settled by then.
    #[serde(default, skip_serializing_if = "is_none_settled")]
    pub settled_before: u64,
    /// Entries of the history since then.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub history_len: u32,
    /// Pages of the history before this one are gone.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub first_page: u32,
    /// The run that started this one as its child.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<RunId>,
    /// Who is told how the run ends: its parent, and others that found it under its reference id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listeners: Vec<Listener>,
    /// How many ancestors the run has.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub depth: u32,
    /// The run fails when it has not ended by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// The latest checkpoints of tasks that have not ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checkpoints: Vec<Checkpoint>,
    /// With whom the run shares a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<ConcurrencyKey>,
    /// The limit of its key was reached when a worker asked for the run: it is announced again when
    /// another run of the key is given back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held_back: bool,
    /// The trace from which it was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceParent>,
    /// Events received since the run was created or last continued as new.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub events: u32,
    /// It was last taken by a worker of the plain contract: its waits end when what they are for comes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub plain: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_none_settled(count: &u64) -> bool {
    *count == 0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl ParkedStep {
    /// Whether this is the sleep with that ordinal.
    pub fn is_sleep(&self, wanted: u32) -> bool {
        matches!(self, ParkedStep::Sleep { ordinal, .. } if *ordinal == wanted)
    }

    /// Whether this is the wait with that ordinal.
    pub fn is_wait(&self, wanted: u32) -> bool {
        match self {
            ParkedStep::Event { ordinal, .. } | ParkedStep::Child { ordinal, .. } => *ordinal == wanted,
            ParkedStep::Sleep { .. } | ParkedStep::Task(_) => false,
        }
    }
}

/// Whether a run that ends so gives up the tasks that are under way: it did not end by its worker.
/// Head and record follow the same rule.
pub(crate) fn gives_up_tasks(state: &RunState) -> bool {
    match state {
        RunState::Cancelled { .. } => true,
        RunState::Failed { cause: FailureCause::Own(error) } => error.name == DEADLINE_EXCEEDED,
        _ => false,
    }
}

impl RunHead {
    /// Moves the run to `to` and writes the transition into `entries`.
    ///
    /// # Errors
    /// [`IllegalTransition`], and nothing is changed.
    pub(crate) fn transition(
        &mut self,
        to: RunState,
        now: Timestamp,
        entries: &mut Vec<HistoryEntry>,
    ) -> Result<(), IllegalTransition> {
        if !permits_to_server(&self.state, &to) {
            return Err(IllegalTransition { from: self.state.status(), to: to.status() });
        }
        if !matches!(to, RunState::Running) {
            self.lease = None;
        }
        self.announce = match &to {
            RunState::Queued { .. } => {
                Some(Announcement { ready_since: now, next: now.after(republish_backoff(std::time::Duration::ZERO)) })
            }
            _ => None,
        };
        self.held_back = false;
        self.ended_at = to.is_terminal().then_some(now);
        if to.is_terminal() {
            self.parked.clear();
            self.open_tasks.clear();
            self.checkpoints.clear();
        }
        if matches!(to, RunState::Queued { reason: QueuedReason::Retry }) {
            self.attempts += 1;
            // What a new attempt logs was never logged before.
            self.seen = None;
        }
        self.revision += 1;
        self.last_transition = self.transitions;
        self.transitions += 1;
        if gives_up_tasks(&to) {
            self.discard_tasks(false);
        }
        self.push(now, Entry::Run { attempt: self.attempts, state: to.clone() }, entries);
        self.state = to;
        Ok(())
    }

    /// The tasks that did not end are given up, a transition of each; `failed_too`: also those that failed.
    pub(crate) fn discard_tasks(&mut self, failed_too: bool) {
        let counts = &mut self.counts;
        let failed = if failed_too { std::mem::take(&mut counts.failed) } else { 0 };
        let discarded = std::mem::take(&mut counts.running) + std::mem::take(&mut counts.awaiting_retry) + failed;
        counts.discarded += discarded;
        self.transitions += discarded;
    }

    /// Writes an entry and counts what it counts for. Transitions of the run count themselves.
    pub(crate) fn push(&mut self, now: Timestamp, entry: Entry, entries: &mut Vec<HistoryEntry>) {
        self.history_len = self.history_len.saturating_add(1);
        self.settled += u64::from(entry.settles());
        self.signals += u32::from(entry.is_signal());
        self.transitions += u32::from(entry.is_transition() && !matches!(entry, Entry::Run { .. }));
        match &entry {
            Entry::EventReceived { .. } => self.events = self.events.saturating_add(1),
            Entry::Continued { events, .. } => self.events = events.len() as u32,
            _ => {}
        }
        entries.push(HistoryEntry { at: now, entry });
    }

    /// The handler begins again: what its earlier calls left behind is nobody's business any more.
    pub(crate) fn forget_history(&mut self) {
        self.base = self.ordinals();
        self.settled_before = self.settled;
        self.history_len = 0;
        self.parked.clear();
        self.open_tasks.clear();
        self.checkpoints.clear();
        self.counts = TaskCounts::default();
    }

    /// Whether nobody works on the run and one of its steps waits: it goes on when that step may.
    pub(crate) fn is_suspended(&self) -> bool {
        match self.state {
            RunState::Sleeping { .. } | RunState::AwaitingEvent { .. } | RunState::AwaitingChild { .. } => true,
            RunState::Running => self.lease.is_none() && !self.parked.is_empty(),
            _ => false,
        }
    }

    /// What the run has counted over its whole life.
    pub fn ordinals(&self) -> Ordinals {
        Ordinals {
            tasks: self.tasks_opened,
            sleeps: self.sleeps_opened,
            waits: self.waits_opened,
            children: self.children_opened,
            transitions: self.transitions,
            signals: self.signals,
        }
    }

    /// The id of the run's latest transition.
    pub fn state_transition_id(&self) -> TransitionId {
        self.id.transition(self.last_transition)
    }

    /// When the server has to look at this run again, whatever for: its next announcement, the end of
    /// its lease, or the time that it waits for. `None` when only somebody else can move it.
    pub fn due_at(&self) -> Option<Timestamp> {
        let due = self.state_due_at().filter(|due| *due != Timestamp::MAX);
        match self.deadline {
            Some(deadline) if !self.state.is_terminal() => Some(due.map_or(deadline, |due| due.min(deadline))),
            _ => due,
        }
    }

    /// What the state by itself waits for.
    fn state_due_at(&self) -> Option<Timestamp> {
        match &self.state {
            RunState::Scheduled { scheduled_at, .. } => Some(*scheduled_at),
            RunState::Queued { .. } if self.held_back => None,
            // A plain claim leaves the run queued.
            RunState::Queued { .. } => match &self.lease {
                Some(lease) => Some(lease.until),
                None => self.announce.map(|announce| announce.next),
            },
            RunState::Running => match &self.lease {
                Some(lease) => Some(lease.until),
                None => self.earliest_parked().map(|parked| parked.due),
            },
            RunState::Sleeping { wakeup_at, .. } => Some(*wakeup_at),
            RunState::AwaitingRetry { next_attempt_at, .. } => Some(*next_attempt_at),
            RunState::AwaitingEvent { timeout_at, .. } | RunState::AwaitingChild { timeout_at, .. } => *timeout_at,
            RunState::Paused
            | RunState::Stalled
            | RunState::Cancelled { .. }
            | RunState::Completed { .. }
            | RunState::Failed { .. } => None,
        }
    }

    /// Where the run stands in the order of ready runs; `None` while it is not ready.
    pub fn rank(&self) -> Option<Rank> {
        self.announce
            .filter(|_| !self.held_back && self.lease.is_none())
            .map(|announce| Rank::of_ready(announce.ready_since, self.priority))
    }

    /// The pool that the run is reserved for.
    pub fn pool(&self) -> Option<&Name> {
        self.options.as_ref().and_then(|options| options.pool.as_ref())
    }

    /// The parked step that is due first.
    pub fn earliest_parked(&self) -> Option<&Parked> {
        self.parked.iter().min_by_key(|parked| parked.due)
    }
}
