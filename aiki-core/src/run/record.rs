//! The whole of a run, as a worker replays it and as a caller reads it.

use super::head::RunHead;
use super::history::{Entry, HistoryEntry};
use super::options::RunOptions;
use super::state::{RunState, TaskState};
use super::status::QueuedReason;
use crate::hash::InputHash;
use crate::id::{RunId, ScheduleId, TaskId, TransitionId};
use crate::name::{Name, WorkflowKey};
use crate::payload::Payload;
use crate::rank::Priority;
use crate::retry::RetryStrategy;
use crate::time::Timestamp;

/// A run with its history folded into tasks and sleeps.
#[derive(Clone, Debug, PartialEq)]
pub struct RunRecord {
    /// The run's id.
    pub id: RunId,
    /// The tenant that the run belongs to.
    pub namespace: Name,
    /// The code that the run executes.
    pub workflow: WorkflowKey,
    /// When it was created.
    pub created_at: Timestamp,
    /// When a worker first took it.
    pub started_at: Option<Timestamp>,
    /// Grows by one with every transition of the run.
    pub revision: u64,
    /// The id of the run's latest transition.
    pub state_transition_id: TransitionId,
    /// The input; `None` when the run was created without one.
    pub input: Option<Payload>,
    /// Hash of the input.
    pub input_hash: InputHash,
    /// The caller's own id for the run.
    pub reference_id: Option<String>,
    /// The schedule that started it.
    pub schedule: Option<ScheduleId>,
    /// The caller's options; `None` when the caller sent none.
    pub options: Option<RunOptions>,
    /// How urgent the run is.
    pub priority: Priority,
    /// Attempts of the run, the first included.
    pub attempts: u64,
    /// The current state.
    pub state: RunState,
    /// All tasks in the order in which they were opened, discarded ones included.
    pub tasks: Vec<TaskRecord>,
    /// All sleeps in the order in which they began.
    pub sleeps: Vec<SleepRecord>,
    /// The times that the handler was told, in order.
    pub times: Vec<Timestamp>,
    /// Steps that were settled when a worker last reported, `None` before the first report.
    pub seen: Option<u64>,
}

/// One task of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskRecord {
    /// The task's id.
    pub id: TaskId,
    /// The task's name.
    pub name: String,
    /// Hash of its input.
    pub input_hash: InputHash,
    /// Its input.
    pub input: Option<Payload>,
    /// Its retry strategy when it was opened.
    pub retry: Option<RetryStrategy>,
    /// Where it stands.
    pub state: TaskState,
    /// The attempt of the run in which it was opened.
    pub run_attempt: u64,
    /// Its place in the order in which the run's steps were settled, from 1.
    pub settled: Option<u64>,
}

/// One sleep of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SleepRecord {
    /// The sleep's name.
    pub name: String,
    /// When it began.
    pub opened_at: Timestamp,
    /// Where it stands.
    pub state: SleepState,
    /// Its place in the order in which the run's steps were settled, from 1.
    pub settled: Option<u64>,
}

/// Where a sleep stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "fields are named as in the contract")]
pub enum SleepState {
    /// It lasts until `wakeup_at`.
    Sleeping { wakeup_at: Timestamp },
    /// It lasted `duration_ms`, which is never less than was asked for.
    Completed { duration_ms: u64, completed_at: Timestamp },
    /// It was cut short.
    Cancelled { cancelled_at: Timestamp },
}

/// One line in the list of a run's transitions.
#[derive(Clone, Debug, PartialEq)]
pub struct TransitionRecord {
    /// The transition's id.
    pub id: TransitionId,
    /// When it happened.
    pub created_at: Timestamp,
    /// The attempt of the run or of the task.
    pub attempt: u64,
    /// What changed.
    pub change: TransitionChange,
}

/// What a transition changed.
#[derive(Clone, Debug, PartialEq)]
pub enum TransitionChange {
    /// The run moved to this state.
    Run(RunState),
    /// A task moved to this state.
    Task(TaskId, TaskState),
}

/// Reads a history from its beginning and keeps what it amounts to.
struct Fold {
    id: RunId,
    input: Option<Payload>,
    tasks: Vec<TaskRecord>,
    sleeps: Vec<SleepRecord>,
    times: Vec<Timestamp>,
    attempt: u64,
    settled: u64,
}

impl Fold {
    fn new(id: RunId) -> Self {
        Self { id, input: None, tasks: Vec::new(), sleeps: Vec::new(), times: Vec::new(), attempt: 1, settled: 0 }
    }

    /// Takes in one entry; answers the change that the list of transitions shows for it.
    fn apply(&mut self, HistoryEntry { at, entry }: HistoryEntry) -> Option<(u64, TransitionChange)> {
        if entry.settles() {
            self.settled += 1;
        }
        match entry {
            Entry::Created { input } => self.input = input,
            Entry::TimeRead { time } => self.times.push(time),
            Entry::Run { attempt, state } => {
                self.attempt = attempt;
                match &state {
                    RunState::Cancelled { .. } => self.discard(false),
                    RunState::Queued { reason: QueuedReason::Retry } => self.discard(true),
                    _ => {}
                }
                return Some((attempt, TransitionChange::Run(state)));
            }
            Entry::TaskOpened { ordinal, name, input_hash, input, retry } => {
                debug_assert_eq!(ordinal as usize, self.tasks.len(), "tasks are opened in order");
                let state = TaskState::Running { attempts: 1 };
                let id = self.id.task(ordinal);
                self.tasks.push(TaskRecord {
                    id,
                    name,
                    input_hash,
                    input,
                    retry,
                    state: state.clone(),
                    run_attempt: self.attempt,
                    settled: None,
                });
                return Some((1, TransitionChange::Task(id, state)));
            }
            Entry::TaskRestarted { ordinal, attempts } => {
                return self.task(ordinal, TaskState::Running { attempts }, None);
            }
            Entry::TaskParked { ordinal, attempts, error, next_attempt_at } => {
                return self.task(ordinal, TaskState::AwaitingRetry { attempts, error, next_attempt_at }, None);
            }
            Entry::TaskCompleted { ordinal, attempts, output } => {
                return self.task(ordinal, TaskState::Completed { attempts, output }, Some(self.settled));
            }
            Entry::TaskFailed { ordinal, attempts, error } => {
                return self.task(ordinal, TaskState::Failed { attempts, error }, Some(self.settled));
            }
            Entry::SleepOpened { ordinal, name, wakeup_at } => {
                debug_assert_eq!(ordinal as usize, self.sleeps.len(), "sleeps are opened in order");
                let state = SleepState::Sleeping { wakeup_at };
                self.sleeps.push(SleepRecord { name, opened_at: at, state, settled: None });
            }
            Entry::SleepCompleted { ordinal } => self
                .end_sleep(ordinal, |sleep| SleepState::Completed { duration_ms: slept(sleep, at), completed_at: at }),
            Entry::SleepCancelled { ordinal } => {
                self.end_sleep(ordinal, |_| SleepState::Cancelled { cancelled_at: at });
            }
        }
        None
    }

    fn task(&mut self, ordinal: u32, state: TaskState, settled: Option<u64>) -> Option<(u64, TransitionChange)> {
        let task = self.tasks.get_mut(ordinal as usize)?;
        task.state = state.clone();
        task.settled = settled;
        Some((state.attempts(), TransitionChange::Task(task.id, state)))
    }

    fn end_sleep(&mut self, ordinal: u32, state: impl FnOnce(&SleepRecord) -> SleepState) {
        if let Some(sleep) = self.sleeps.get_mut(ordinal as usize) {
            sleep.state = state(sleep);
            sleep.settled = Some(self.settled);
        }
    }

    /// A run that ends by request, or begins a new attempt, gives up the tasks that are under way;
    /// a new attempt also those that failed.
    fn discard(&mut self, failed_too: bool) {
        for task in &mut self.tasks {
            let attempts = task.state.attempts();
            let discard = match task.state {
                TaskState::Running { .. } | TaskState::AwaitingRetry { .. } => true,
                TaskState::Failed { .. } => failed_too,
                TaskState::Completed { .. } | TaskState::Discarded { .. } => false,
            };
            if discard {
                task.state = TaskState::Discarded { attempts };
                task.settled = None;
            }
        }
    }
}

/// How long a sleep lasted: never less than was asked for, and at least 1 ms.
fn slept(sleep: &SleepRecord, now: Timestamp) -> u64 {
    let actual = now.since(sleep.opened_at).as_millis() as u64;
    let asked = match sleep.state {
        SleepState::Sleeping { wakeup_at } => wakeup_at.since(sleep.opened_at).as_millis() as u64,
        SleepState::Completed { .. } | SleepState::Cancelled { .. } => 0,
    };
    actual.max(asked).max(1)
}

impl RunRecord {
    /// Folds a run's whole history.
    pub fn fold(head: &RunHead, entries: impl IntoIterator<Item = HistoryEntry>) -> Self {
        let mut fold = Fold::new(head.id);
        for entry in entries {
            fold.apply(entry);
        }
        RunRecord {
            id: head.id,
            namespace: head.namespace.clone(),
            workflow: head.workflow.clone(),
            created_at: head.created_at,
            started_at: head.started_at,
            revision: head.revision,
            state_transition_id: head.state_transition_id(),
            input: fold.input,
            input_hash: head.input_hash.clone(),
            reference_id: head.reference_id.clone(),
            schedule: head.schedule,
            options: head.options.clone(),
            priority: head.priority,
            attempts: head.attempts,
            state: head.state.clone(),
            tasks: fold.tasks,
            sleeps: fold.sleeps,
            times: fold.times,
            seen: head.seen,
        }
    }
}

/// Lists the transitions of a history, oldest first.
pub fn transitions(id: RunId, entries: impl IntoIterator<Item = HistoryEntry>) -> Vec<TransitionRecord> {
    let mut fold = Fold::new(id);
    let mut list = Vec::new();
    for entry in entries {
        let created_at = entry.at;
        if let Some((attempt, change)) = fold.apply(entry) {
            let id = id.transition(list.len() as u32);
            list.push(TransitionRecord { id, created_at, attempt, change });
        }
    }
    list
}
