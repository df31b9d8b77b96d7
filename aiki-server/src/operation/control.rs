//! What callers may do to runs from outside.

use aiki_core::run::plan::{self, RunCommand, SetTaskError, TaskTarget};
use aiki_core::server_client::SetTaskResult;
use aiki_core::{Name, RunId, ServerError};

use super::{Operation, one_of_many};
use crate::lane::{Desk, Edit};

pub(crate) struct Command {
    pub(crate) namespace: Name,
    pub(crate) run: RunId,
    pub(crate) command: RunCommand,
}

impl Operation for Command {
    type Answer = ();

    fn touches(&self, runs: &mut Vec<RunId>) {
        runs.push(self.run);
    }

    fn plan(&self, desk: &mut Desk<'_>) -> Result<(), ServerError> {
        let planned = desk.edit(&self.namespace, self.run, |head, now, entries| {
            match plan::command(head, self.command, now, entries) {
                Ok(()) => Edit::Changed(Ok(())),
                Err(error) => Edit::Unchanged(Err(error)),
            }
        })?;
        planned.map_err(|error| ServerError::IllegalTransition(error.to_string()))
    }
}

pub(crate) struct CancelMany {
    pub(crate) namespace: Name,
    pub(crate) runs: Vec<RunId>,
}

impl Operation for CancelMany {
    type Answer = Vec<RunId>;

    fn touches(&self, runs: &mut Vec<RunId>) {
        runs.extend_from_slice(&self.runs);
    }

    fn plan(&self, desk: &mut Desk<'_>) -> Result<Vec<RunId>, ServerError> {
        let mut cancelled = Vec::new();
        for run in &self.runs {
            let planned =
                desk.edit(&self.namespace, *run, |head, now, entries| match plan::cancel(head, None, now, entries) {
                    Ok(()) => Edit::Changed(true),
                    Err(_) => Edit::Unchanged(false),
                });
            match planned {
                Err(ServerError::RunNotFound(_)) => {}
                answer => cancelled.extend(one_of_many(*run, answer)?.filter(|done| *done).map(|_| *run)),
            }
        }
        Ok(cancelled)
    }
}

pub(crate) struct SetTask {
    pub(crate) namespace: Name,
    pub(crate) request: SetTaskResult,
    /// Attempts of the task with this one.
    pub(crate) attempts: u64,
}

impl Operation for SetTask {
    type Answer = ();

    fn touches(&self, runs: &mut Vec<RunId>) {
        runs.push(self.request.run);
    }

    fn plan(&self, desk: &mut Desk<'_>) -> Result<(), ServerError> {
        let SetTaskResult { run, target, result } = &self.request;
        let planned = desk.edit(&self.namespace, *run, |head, now, entries| {
            match plan::set_task_result(head, target, self.attempts, result, now, entries) {
                Ok(()) => Edit::Changed(Ok(())),
                Err(error) => Edit::Unchanged(Err(error)),
            }
        })?;
        planned.map_err(|error| match (&error, target) {
            (SetTaskError::Ended(status), _) => ServerError::RunEnded { run: *run, status: *status },
            (SetTaskError::NotFound(task), TaskTarget::Existing(_)) => ServerError::TaskNotFound(*task),
            _ => ServerError::IllegalTransition(error.to_string()),
        })
    }
}
