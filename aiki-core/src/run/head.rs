//! The head of a run: all that is needed to judge a request, of a size that does not grow with the
//! run's history.

use serde::{Deserialize, Serialize};

use super::history::{Entry, HistoryEntry};
use super::options::RunOptions;
use super::state::RunState;
use super::status::QueuedReason;
use super::transition::{IllegalTransition, permits};
use crate::hash::InputHash;
use crate::id::{RunId, ScheduleId, TransitionId};
use crate::name::{Name, WorkflowKey};
use crate::rank::{Priority, Rank, republish_backoff};
use crate::time::Timestamp;

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
    /// When it is due.
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
}

impl ParkedStep {
    /// Whether this is the sleep with that ordinal.
    pub fn is_sleep(&self, wanted: u32) -> bool {
        matches!(self, ParkedStep::Sleep { ordinal, .. } if *ordinal == wanted)
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
        if !permits(&self.state, &to) {
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
        if to.is_terminal() {
            self.parked.clear();
            self.open_tasks.clear();
        }
        if matches!(to, RunState::Queued { reason: QueuedReason::Retry }) {
            self.attempts += 1;
            // What a new attempt logs was never logged before.
            self.seen = None;
        }
        self.revision += 1;
        self.last_transition = self.transitions;
        self.transitions += 1;
        entries.push(HistoryEntry { at: now, entry: Entry::Run { attempt: self.attempts, state: to.clone() } });
        self.state = to;
        Ok(())
    }

    /// The id of the run's latest transition.
    pub fn state_transition_id(&self) -> TransitionId {
        self.id.transition(self.last_transition)
    }

    /// When the server has to look at this run again, whatever for: its next announcement, the end of
    /// its lease, or the time that it waits for. `None` when only somebody else can move it.
    pub fn due_at(&self) -> Option<Timestamp> {
        match &self.state {
            RunState::Scheduled { scheduled_at, .. } => Some(*scheduled_at),
            RunState::Queued { .. } => self.announce.map(|announce| announce.next),
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
        self.announce.map(|announce| Rank::new(announce.ready_since.as_millis(), self.priority))
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
