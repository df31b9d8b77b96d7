//! The record as replay uses it: one queue per address, consumed call by call.

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::hash::InputHash;
use crate::id::TaskId;
use crate::report::ChildStart;
use crate::run::{ChildRecord, RunRecord, SleepRecord, TaskRecord, TaskState, WaitOn, WaitRecord, WaitState};
use crate::time::Timestamp;

/// What of a run's record no call has asked for yet.
#[derive(Debug, Default)]
pub(super) struct Recorded {
    tasks: HashMap<(String, InputHash), VecDeque<TaskRecord>>,
    sleeps: HashMap<String, VecDeque<(u32, SleepRecord)>>,
    times: VecDeque<Timestamp>,
    /// By workflow version and reference id, or else input.
    children: HashMap<(String, String), VecDeque<ChildRecord>>,
    event_waits: HashMap<String, VecDeque<WaitRecord>>,
    child_waits: HashMap<u32, VecDeque<WaitRecord>>,
    /// Children whose end the handler has asked for.
    cancelled: BTreeSet<u32>,
    /// Tasks and children that the present attempt of the run opened and no call has consumed. Only they speak of
    /// a divergence: what an earlier attempt left behind may rightly not be asked for again.
    unclaimed: usize,
    attempt: u64,
}

impl Recorded {
    pub(super) fn new(record: &mut RunRecord) -> Self {
        let mut recorded = Recorded {
            attempt: record.attempts,
            times: std::mem::take(&mut record.times).into(),
            ..Recorded::default()
        };
        for task in std::mem::take(&mut record.tasks) {
            if matches!(task.state, TaskState::Discarded { .. }) {
                continue;
            }
            recorded.unclaimed += usize::from(task.run_attempt == record.attempts);
            recorded.tasks.entry((task.name.clone(), task.input_hash.clone())).or_default().push_back(task);
        }
        let first_sleep = record.ordinals.sleeps - record.sleeps.len() as u32;
        for (ordinal, sleep) in std::mem::take(&mut record.sleeps).into_iter().enumerate() {
            if sleep.discarded {
                continue;
            }
            let ordinal = first_sleep + ordinal as u32;
            recorded.sleeps.entry(sleep.name.clone()).or_default().push_back((ordinal, sleep));
        }
        for child in std::mem::take(&mut record.children) {
            if child.discarded {
                continue;
            }
            recorded.unclaimed += usize::from(child.run_attempt == record.attempts);
            recorded.cancelled.extend(child.cancelled.then_some(child.ordinal));
            let same = child.reference_id.as_deref().unwrap_or(child.input_hash.as_str());
            let key = (child.workflow.to_string(), same.to_owned());
            recorded.children.entry(key).or_default().push_back(child);
        }
        for wait in std::mem::take(&mut record.waits).into_iter().filter(|wait| !wait.discarded) {
            match &wait.on {
                WaitOn::Event(name) => recorded.event_waits.entry(name.clone()).or_default().push_back(wait),
                WaitOn::Child(child) => recorded.child_waits.entry(*child).or_default().push_back(wait),
            }
        }
        recorded
    }

    pub(super) fn take_child(&mut self, start: &ChildStart) -> Option<ChildRecord> {
        let same = start.reference.as_ref().map_or(start.input_hash.as_str(), |reference| &reference.id);
        let child = self.children.get_mut(&(start.workflow.to_string(), same.to_owned()))?.pop_front()?;
        self.unclaimed -= usize::from(child.run_attempt == self.attempt);
        Some(child)
    }

    /// Whether the handler has asked for the end of this child before. The first ask of a pass counts.
    pub(super) fn take_cancelled(&mut self, child: u32) -> bool {
        !self.cancelled.insert(child)
    }

    /// The next wait for this. One that may last for ever is never given a timeout, which an earlier attempt of
    /// the run may have left behind: nothing would ever end it.
    pub(super) fn take_wait(&mut self, on: &WaitOn, timed: bool) -> Option<WaitRecord> {
        let waits = self.waits(on)?;
        let fits = |wait: &WaitRecord| timed || !matches!(wait.state, WaitState::TimedOut { .. });
        let at = waits.iter().position(fits)?;
        waits.remove(at)
    }

    fn waits(&mut self, on: &WaitOn) -> Option<&mut VecDeque<WaitRecord>> {
        match on {
            WaitOn::Event(name) => self.event_waits.get_mut(name),
            WaitOn::Child(child) => self.child_waits.get_mut(child),
        }
    }

    /// Takes back a wait whose call was dropped before its outcome came to its turn.
    pub(super) fn give_back_wait(&mut self, wait: WaitRecord) {
        if let Some(waits) = self.waits(&wait.on) {
            waits.push_front(wait);
        }
    }

    /// The same with a task, as one of an earlier attempt.
    pub(super) fn give_back_task(&mut self, task: TaskRecord) {
        self.tasks.entry((task.name.clone(), task.input_hash.clone())).or_default().push_front(task);
    }

    /// Forgets the waits that no call has asked for; answers which of them still last.
    pub(super) fn drop_waits(&mut self) -> Vec<u32> {
        let events = self.event_waits.drain().flat_map(|(_, waits)| waits);
        let left = events.chain(self.child_waits.drain().flat_map(|(_, waits)| waits));
        let lasting = left.filter(|wait| matches!(wait.state, WaitState::Waiting { .. }));
        let mut ordinals: Vec<_> = lasting.map(|wait| wait.ordinal).collect();
        ordinals.sort_unstable();
        ordinals
    }

    pub(super) fn take_task(&mut self, name: &str, hash: &InputHash) -> Option<TaskRecord> {
        if self.tasks.is_empty() {
            return None;
        }
        let key = (name.to_owned(), hash.clone());
        let queue = self.tasks.get_mut(&key)?;
        let task = queue.pop_front();
        if queue.is_empty() {
            self.tasks.remove(&key);
        }
        if let Some(task) = &task {
            self.unclaimed -= usize::from(task.run_attempt == self.attempt);
        }
        task
    }

    pub(super) fn take_sleep(&mut self, name: &str) -> Option<(u32, SleepRecord)> {
        self.sleeps.get_mut(name)?.pop_front()
    }

    pub(super) fn take_time(&mut self) -> Option<Timestamp> {
        self.times.pop_front()
    }

    /// Turns parked tasks that no call has asked for into tasks under way; answers them with their
    /// attempts.
    pub(super) fn unpark(&mut self) -> Vec<(TaskId, u64)> {
        let mut unparked = Vec::new();
        for task in self.tasks.values_mut().flatten() {
            if let TaskState::AwaitingRetry { attempts, .. } = task.state {
                task.state = TaskState::Running { attempts: attempts + 1 };
                unparked.push((task.id, attempts + 1));
            }
        }
        unparked.sort_unstable();
        unparked
    }

    pub(super) fn unclaimed(&self) -> usize {
        self.unclaimed
    }

    /// The unclaimed children of the present attempt, in the order in which they were started.
    pub(super) fn children_left(&self) -> Vec<&ChildRecord> {
        let mut left: Vec<_> =
            self.children.values().flatten().filter(|child| child.run_attempt == self.attempt).collect();
        left.sort_by_key(|child| child.ordinal);
        left
    }

    /// The unclaimed tasks of the present attempt, in the order in which they were opened.
    pub(super) fn tasks_left(&self) -> Vec<&TaskRecord> {
        let mut left: Vec<_> = self.tasks.values().flatten().filter(|task| task.run_attempt == self.attempt).collect();
        left.sort_by_key(|task| task.id);
        left
    }
}
