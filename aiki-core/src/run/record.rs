//! The whole of a run, as a worker replays it and as a caller reads it.

use serde::{Deserialize, Serialize};

use super::head::{RunHead, gives_up_tasks};
use super::history::{Entry, HistoryEntry, ReceivedEvent};
use super::options::RunOptions;
use super::state::{RunState, TaskState};
use super::status::{QueuedReason, RunStatus};
use super::wait::{ChildRecord, Ordinals, WaitOn, WaitRecord, WaitState};
use crate::hash::InputHash;
use crate::id::{RunId, ScheduleId, TaskId, TransitionId};
use crate::name::{Name, WorkflowKey};
use crate::payload::Payload;
use crate::rank::Priority;
use crate::retry::RetryStrategy;
use crate::time::Timestamp;
use crate::trace::TraceParent;

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
    /// The run that started this one as its child.
    pub parent: Option<RunId>,
    /// The run fails when it has not ended by then.
    pub deadline: Option<Timestamp>,
    /// The trace from which it was started.
    pub trace: Option<TraceParent>,
    /// All tasks in the order in which they were opened, discarded ones included. As for all lists
    /// here: since the run was created or last continued as new.
    pub tasks: Vec<TaskRecord>,
    /// All sleeps in the order in which they began.
    pub sleeps: Vec<SleepRecord>,
    /// The times that the handler was told, in order.
    pub times: Vec<Timestamp>,
    /// The events that reached the run, in order.
    pub events: Vec<ReceivedEvent>,
    /// All waits for events and children in the order in which they began.
    pub waits: Vec<WaitRecord>,
    /// All children in the order in which they were started.
    pub children: Vec<ChildRecord>,
    /// Steps that were settled when a worker last reported, `None` before the first report.
    pub seen: Option<u64>,
    /// What the run has counted over its whole life.
    pub ordinals: Ordinals,
    /// Entries of the history.
    pub history_len: u32,
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
    /// The attempt of the run in which it was opened; 0 for one whose result an operator gave before
    /// it was called.
    pub run_attempt: u64,
    /// Its place in the order in which the run's steps were settled, from 1.
    pub settled: Option<u64>,
    /// The latest checkpoint of a task that has not ended.
    pub checkpoint: Option<Payload>,
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
    /// A later attempt of the run does not take it over: it was cut short.
    pub discarded: bool,
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
    events: Vec<ReceivedEvent>,
    waits: Vec<WaitRecord>,
    children: Vec<ChildRecord>,
    signals: Vec<Signal>,
    base: Ordinals,
    attempt: u64,
    settled: u64,
    /// The changes that the list of transitions shows, when somebody wants them.
    listed: Option<Vec<(Timestamp, u64, TransitionChange)>>,
}

/// Something that reached a run from outside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "each variant says what its fields are")]
pub enum Signal {
    /// An event.
    Event(ReceivedEvent),
    /// The child with this ordinal ended in this state.
    ChildEnded { child: u32, state: RunState },
}

impl Fold {
    /// `base` is what was counted before the first entry, `settled` how many steps were settled by then.
    fn new(head: &RunHead) -> Self {
        Self {
            id: head.id,
            input: None,
            tasks: Vec::new(),
            sleeps: Vec::new(),
            times: Vec::new(),
            events: Vec::new(),
            waits: Vec::new(),
            children: Vec::new(),
            signals: Vec::new(),
            base: head.base,
            attempt: 1,
            settled: head.settled_before,
            listed: None,
        }
    }

    fn list(&mut self, at: Timestamp, attempt: u64, change: impl FnOnce() -> TransitionChange) {
        if let Some(listed) = &mut self.listed {
            listed.push((at, attempt, change()));
        }
    }

    /// Takes in one entry.
    fn apply(&mut self, HistoryEntry { at, entry }: HistoryEntry) {
        if entry.settles() {
            self.settled += 1;
        }
        match entry {
            Entry::Created { input } => self.input = input,
            Entry::TimeRead { time } => self.times.push(time),
            Entry::Run { attempt, state } => {
                self.attempt = attempt;
                self.list(at, attempt, || TransitionChange::Run(state.clone()));
                match &state {
                    state if gives_up_tasks(state) => self.discard(at, false),
                    RunState::Queued { reason: QueuedReason::Retry } => self.discard(at, true),
                    _ => {}
                }
            }
            Entry::TaskOpened { ordinal, name, input_hash, input, retry } => {
                let run_attempt = self.attempt;
                self.open_task(at, ordinal, TaskRecord { retry, run_attempt, ..task(name, input_hash, input) });
            }
            Entry::TaskSeeded { ordinal, name, input_hash, input } => {
                self.open_task(at, ordinal, task(name, input_hash, input));
            }
            Entry::TaskRestarted { ordinal, attempts } => {
                self.task(at, ordinal, TaskState::Running { attempts }, None);
            }
            Entry::TaskParked { ordinal, attempts, error, next_attempt_at } => {
                self.task(at, ordinal, TaskState::AwaitingRetry { attempts, error, next_attempt_at }, None);
            }
            Entry::TaskCompleted { ordinal, attempts, output } => {
                self.task(at, ordinal, TaskState::Completed { attempts, output }, Some(self.settled));
            }
            Entry::TaskFailed { ordinal, attempts, error } => {
                self.task(at, ordinal, TaskState::Failed { attempts, error }, Some(self.settled));
            }
            Entry::SleepOpened { ordinal, name, wakeup_at } => {
                debug_assert_eq!(ordinal - self.base.sleeps, self.sleeps.len() as u32, "sleeps are opened in order");
                let state = SleepState::Sleeping { wakeup_at };
                self.sleeps.push(SleepRecord { name, opened_at: at, state, settled: None, discarded: false });
            }
            Entry::SleepCompleted { ordinal } => self
                .end_sleep(ordinal, |sleep| SleepState::Completed { duration_ms: slept(sleep, at), completed_at: at }),
            Entry::SleepCancelled { ordinal } => {
                self.end_sleep(ordinal, |_| SleepState::Cancelled { cancelled_at: at });
            }
            Entry::EventReceived { event } => {
                self.signals.push(Signal::Event(event.clone()));
                self.events.push(event);
            }
            Entry::WaitOpened { ordinal, on, awaited, timeout_at } => {
                debug_assert_eq!(ordinal - self.base.waits, self.waits.len() as u32, "waits are opened in order");
                let state = WaitState::Waiting { timeout_at };
                let wait = WaitRecord { ordinal, on, awaited, ended_at: None, state, settled: None, discarded: false };
                self.waits.push(wait);
            }
            Entry::WaitCompleted { ordinal, event } => {
                self.end_wait(ordinal, at, WaitState::Completed { event }, Some(self.settled));
            }
            Entry::WaitTimedOut { ordinal } => {
                self.end_wait(ordinal, at, WaitState::TimedOut { timed_out_at: at }, Some(self.settled));
            }
            Entry::WaitDropped { ordinal } => self.end_wait(ordinal, at, WaitState::Dropped, None),
            Entry::ChildOpened { ordinal, run, workflow, input_hash, reference_id } => {
                debug_assert_eq!(ordinal - self.base.children, self.children.len() as u32, "children in order");
                let run_attempt = self.attempt;
                self.children.push(ChildRecord {
                    ordinal,
                    run,
                    workflow,
                    input_hash,
                    reference_id,
                    ended: None,
                    cancelled: false,
                    run_attempt,
                    discarded: false,
                });
            }
            Entry::ChildEnded { ordinal, state } => {
                self.signals.push(Signal::ChildEnded { child: ordinal, state: state.clone() });
                if let Some(child) = self.child(ordinal) {
                    child.ended = Some(state);
                }
            }
            Entry::ChildCancelled { ordinal } => {
                if let Some(child) = self.child(ordinal) {
                    child.cancelled = true;
                }
            }
            Entry::Continued { input, events } => {
                self.input = input;
                self.events = events;
                self.tasks.clear();
                self.sleeps.clear();
                self.times.clear();
                self.waits.clear();
                self.children.clear();
                self.signals.clear();
            }
        }
    }

    fn open_task(&mut self, at: Timestamp, ordinal: u32, task: TaskRecord) {
        debug_assert_eq!(ordinal - self.base.tasks, self.tasks.len() as u32, "tasks are opened in order");
        let (id, state) = (self.id.task(ordinal), task.state.clone());
        self.tasks.push(TaskRecord { id, ..task });
        self.list(at, 1, || TransitionChange::Task(id, state));
    }

    fn child(&mut self, ordinal: u32) -> Option<&mut ChildRecord> {
        // A child from before the handler continued as new is nobody's business any more.
        self.children.get_mut(ordinal.checked_sub(self.base.children)? as usize)
    }

    fn end_wait(&mut self, ordinal: u32, now: Timestamp, state: WaitState, settled: Option<u64>) {
        let at = ordinal.checked_sub(self.base.waits);
        if let Some(wait) = at.and_then(|at| self.waits.get_mut(at as usize)) {
            (wait.state, wait.settled, wait.ended_at) = (state, settled, Some(now));
        }
    }

    fn task(&mut self, at: Timestamp, ordinal: u32, state: TaskState, settled: Option<u64>) {
        let place = ordinal.checked_sub(self.base.tasks);
        let Some(task) = place.and_then(|place| self.tasks.get_mut(place as usize)) else { return };
        task.state = state.clone();
        task.settled = settled;
        let id = task.id;
        self.list(at, state.attempts(), || TransitionChange::Task(id, state));
    }

    fn end_sleep(&mut self, ordinal: u32, state: impl FnOnce(&SleepRecord) -> SleepState) {
        let at = ordinal.checked_sub(self.base.sleeps);
        if let Some(sleep) = at.and_then(|at| self.sleeps.get_mut(at as usize)) {
            sleep.state = state(sleep);
            sleep.settled = Some(self.settled);
        }
    }

    /// A run that ends by request, or begins a new attempt, gives up the tasks that are under way;
    /// a new attempt also those that failed.
    fn discard(&mut self, at: Timestamp, failed_too: bool) {
        let mut discarded = Vec::new();
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
                discarded.push((task.id, attempts));
            }
        }
        for (id, attempts) in discarded {
            self.list(at, attempts, || TransitionChange::Task(id, TaskState::Discarded { attempts }));
        }
        for child in &mut self.children {
            let completed = |state: &RunState| state.status() == RunStatus::Completed;
            child.discarded |= failed_too && child.ended.as_ref().is_some_and(|state| !completed(state));
        }
        if failed_too {
            // What came of nothing begins anew, whether it was dropped or just lasted.
            for sleep in &mut self.sleeps {
                sleep.discarded |= matches!(sleep.state, SleepState::Cancelled { .. });
            }
            for wait in &mut self.waits {
                wait.discarded |= matches!(wait.state, WaitState::Waiting { .. } | WaitState::Dropped);
            }
        }
        // The waits of a discarded child go with it.
        let discarded: Vec<u32> =
            self.children.iter().filter(|child| child.discarded).map(|child| child.ordinal).collect();
        for wait in &mut self.waits {
            if matches!(&wait.on, WaitOn::Child(child) if discarded.binary_search(child).is_ok()) {
                (wait.state, wait.settled, wait.discarded) = (WaitState::Dropped, None, true);
            }
        }
    }
}

/// A task of whom nothing is known but the call.
fn task(name: String, input_hash: InputHash, input: Option<Payload>) -> TaskRecord {
    TaskRecord {
        id: TaskId::from_bits(0),
        name,
        input_hash,
        input,
        retry: None,
        state: TaskState::Running { attempts: 1 },
        run_attempt: 0,
        settled: None,
        checkpoint: None,
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
        let mut fold = Fold::new(head);
        for entry in entries {
            fold.apply(entry);
        }
        for checkpoint in &head.checkpoints {
            let at = checkpoint.task.checked_sub(head.base.tasks);
            if let Some(task) = at.and_then(|at| fold.tasks.get_mut(at as usize)) {
                task.checkpoint = Some(checkpoint.data.clone());
            }
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
            reference_id: super::shown_reference(head.reference_id.as_ref()),
            schedule: head.schedule,
            options: head.options.clone(),
            priority: head.priority,
            attempts: head.attempts,
            state: head.state.clone(),
            tasks: fold.tasks,
            sleeps: fold.sleeps,
            times: fold.times,
            events: fold.events,
            waits: fold.waits,
            children: fold.children,
            parent: head.parent,
            deadline: head.deadline,
            trace: head.trace.clone(),
            seen: head.seen,
            ordinals: head.ordinals(),
            history_len: head.history_len,
        }
    }
}

/// The signals of a history behind the first `known` that the run ever had.
pub fn signals(head: &RunHead, known: u32, entries: impl IntoIterator<Item = HistoryEntry>) -> Vec<Signal> {
    let mut fold = Fold::new(head);
    for entry in entries {
        fold.apply(entry);
    }
    fold.signals.split_off((known.saturating_sub(head.base.signals) as usize).min(fold.signals.len()))
}

/// Lists the transitions of a history, oldest first.
pub fn transitions(head: &RunHead, entries: impl IntoIterator<Item = HistoryEntry>) -> Vec<TransitionRecord> {
    let mut fold = Fold { listed: Some(Vec::new()), ..Fold::new(head) };
    for entry in entries {
        fold.apply(entry);
    }
    let record = |(at, (created_at, attempt, change))| {
        let id = head.id.transition(head.base.transitions + at);
        TransitionRecord { id, created_at, attempt, change }
    };
    (0..).zip(fold.listed.unwrap_or_default()).map(record).collect()
}
