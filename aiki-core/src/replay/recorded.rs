//! The record as replay uses it: one queue per address, consumed call by call.

use std::collections::{HashMap, VecDeque};

use crate::hash::InputHash;
use crate::id::TaskId;
use crate::run::{RunRecord, SleepRecord, TaskRecord, TaskState};
use crate::time::Timestamp;

/// What of a run's record no call has asked for yet.
#[derive(Debug, Default)]
pub(super) struct Recorded {
    tasks: HashMap<(String, InputHash), VecDeque<TaskRecord>>,
    sleeps: HashMap<String, VecDeque<(u32, SleepRecord)>>,
    times: VecDeque<Timestamp>,
    /// Tasks that the present attempt of the run opened and no call has consumed. Only they speak of
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
        for (ordinal, sleep) in std::mem::take(&mut record.sleeps).into_iter().enumerate() {
            recorded.sleeps.entry(sleep.name.clone()).or_default().push_back((ordinal as u32, sleep));
        }
        recorded
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

    /// The unclaimed tasks of the present attempt, in the order in which they were opened.
    pub(super) fn leftovers(&self) -> Vec<&TaskRecord> {
        let mut left: Vec<_> = self.tasks.values().flatten().filter(|task| task.run_attempt == self.attempt).collect();
        left.sort_by_key(|task| task.id);
        left
    }
}
