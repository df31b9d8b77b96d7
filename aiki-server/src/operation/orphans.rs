//! Taking back what workers of the server's last process held.

use aiki_core::run::plan;
use aiki_core::{Name, RunId, ServerError};

use super::{Operation, one_of_many};
use crate::lane::{Desk, Edit};

pub(crate) struct TakeBackOrphans {
    pub(crate) runs: Vec<(Name, RunId)>,
}

impl Operation for TakeBackOrphans {
    /// How many runs were taken back.
    type Answer = usize;

    fn touches(&self, runs: &mut Vec<RunId>) {
        runs.extend(self.runs.iter().map(|(_, run)| *run));
    }

    fn plan(&self, desk: &mut Desk<'_>) -> Result<usize, ServerError> {
        let mut count = 0;
        for (namespace, run) in &self.runs {
            let taken = desk.edit(namespace, *run, |head, now, entries| match plan::orphan(head, now, entries) {
                true => Edit::Changed(true),
                false => Edit::Unchanged(false),
            });
            count += usize::from(one_of_many(*run, taken)?.unwrap_or(false));
        }
        Ok(count)
    }
}
