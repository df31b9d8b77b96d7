//! Cancelling a run.

use aiki_core::run::plan;
use aiki_core::{Name, RunId, ServerError};

use super::Operation;
use crate::lane::{Desk, Edit};

pub(crate) struct Cancel {
    pub(crate) namespace: Name,
    pub(crate) run: RunId,
    pub(crate) explanation: Option<String>,
}

impl Operation for Cancel {
    type Answer = ();

    fn touches(&self, runs: &mut Vec<RunId>) {
        runs.push(self.run);
    }

    fn plan(&self, desk: &mut Desk<'_>) -> Result<(), ServerError> {
        let planned = desk.edit(&self.namespace, self.run, |head, now, entries| {
            match plan::cancel(head, self.explanation.clone(), now, entries) {
                Ok(()) => Edit::Changed(Ok(())),
                Err(error) => Edit::Unchanged(Err(error)),
            }
        })?;
        planned.map_err(|error| ServerError::IllegalTransition(error.to_string()))
    }
}
