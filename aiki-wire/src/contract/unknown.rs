//! Ids that belong to nothing.

use aiki_core::{RunId, ScheduleId, TaskId};

/// An id that is no ULID: there is nothing under it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each text says what it is")]
pub enum UnknownId {
    #[error("there is no run {0}")]
    Run(String),
    #[error("there is no task {0}")]
    Task(String),
    #[error("there is no schedule {0}")]
    Schedule(String),
}

impl UnknownId {
    /// The id of a run.
    ///
    /// # Errors
    /// [`UnknownId::Run`].
    pub fn run(id: &str) -> Result<RunId, UnknownId> {
        id.parse().map_err(|_| UnknownId::Run(shown(id)))
    }

    /// The id of a task.
    ///
    /// # Errors
    /// [`UnknownId::Task`].
    pub fn task(id: &str) -> Result<TaskId, UnknownId> {
        id.parse().map_err(|_| UnknownId::Task(shown(id)))
    }

    /// The id of a schedule.
    ///
    /// # Errors
    /// [`UnknownId::Schedule`].
    pub fn schedule(id: &str) -> Result<ScheduleId, UnknownId> {
        id.parse().map_err(|_| UnknownId::Schedule(shown(id)))
    }
}

fn shown(id: &str) -> String {
    id.chars().take(128).collect()
}
