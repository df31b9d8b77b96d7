//! What tasks did: every attempt, in order.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aiki_core::intercept::AttemptResult;
use aiki_core::{ErrorObject, Payload, RunId, TaskAttempt, TaskId, Timestamp};

/// At most so many attempts are remembered.
const LIMIT: usize = 1_000_000;

/// One attempt of a task, as it was seen.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TaskRun {
    /// The task's name.
    pub task: String,
    /// The task's id: one for each call, whatever its attempts.
    pub id: TaskId,
    /// The run that called it.
    pub run: RunId,
    /// The attempt, from 1. An attempt that a crash cut short has the same number as its repetition.
    pub attempt: u64,
    /// The input; `None` when it has none.
    pub input: Option<Payload>,
    /// When it began, in virtual time.
    pub at: Timestamp,
    /// Whether a mock stood in for the task's body.
    pub mocked: bool,
    /// How it ended; `None` while it lasts, and when it was cut short.
    pub result: Option<Result<Option<Payload>, ErrorObject>>,
}

/// All attempts of an environment. Clones are one journal.
#[derive(Clone, Debug, Default)]
pub(crate) struct Journal {
    runs: Arc<Mutex<Vec<TaskRun>>>,
}

impl Journal {
    fn lock(&self) -> MutexGuard<'_, Vec<TaskRun>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An attempt begins; answers its place.
    pub(crate) fn begin(&self, attempt: &TaskAttempt, at: Timestamp, mocked: bool) -> usize {
        let context = attempt.context();
        let run = TaskRun {
            task: attempt.name().to_owned(),
            id: context.task_id(),
            run: context.run_id(),
            attempt: context.attempt(),
            input: attempt.input().cloned(),
            at,
            mocked,
            result: None,
        };
        let mut runs = self.lock();
        if runs.len() < LIMIT {
            runs.push(run);
        }
        runs.len()
    }

    pub(crate) fn end(&self, place: usize, result: &AttemptResult) {
        let ended = result.clone().map_err(|failure| failure.into_object());
        if let Some(run) = self.lock().get_mut(place.wrapping_sub(1)) {
            run.result = Some(ended);
        }
    }

    /// Every attempt.
    pub(crate) fn attempts(&self) -> Vec<TaskRun> {
        self.lock().clone()
    }

    /// The first attempt of every call.
    pub(crate) fn calls(&self) -> Vec<TaskRun> {
        let mut seen = std::collections::HashSet::new();
        self.lock().iter().filter(|run| seen.insert(run.id)).cloned().collect()
    }

    /// The first attempt of every call of one task.
    pub(crate) fn calls_of(&self, task: &str) -> Vec<TaskRun> {
        self.calls().into_iter().filter(|run| run.task == task).collect()
    }
}
