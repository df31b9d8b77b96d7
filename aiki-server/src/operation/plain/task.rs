//! Moving a task.

use aiki_core::run::plan::plain::{self, TransitionTask, TransitionedTask};
use aiki_core::{Name, RunId, ServerError};

use super::{refusal, size};
use crate::lane::{Desk, Edit};
use crate::operation::Operation;
use crate::validate;

/// Moves a task.
pub(crate) struct MoveTask {
    pub(crate) namespace: Name,
    pub(crate) request: TransitionTask,
}

impl Operation for MoveTask {
    type Answer = TransitionedTask;

    fn touches(&self, runs: &mut Vec<RunId>) {
        runs.push(self.request.run);
    }

    fn size(&self) -> usize {
        size(validate::payload_of_change(&self.request.change))
    }

    fn plan(&self, desk: &mut Desk<'_>) -> Result<TransitionedTask, ServerError> {
        let run = self.request.run;
        let planned = desk.edit(&self.namespace, run, |head, now, entries| {
            match plain::transition_task(head, &self.request, now, entries) {
                Ok(moved) => Edit::Changed(Ok(moved)),
                Err(error) => Edit::Unchanged(Err(error)),
            }
        })?;
        planned.map_err(|error| refusal(run, error))
    }
}
