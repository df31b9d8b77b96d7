//! Taking back what a worker holds that is gone.

use aiki_core::run::plan;
use aiki_core::{Name, RunId, ServerError};

use super::{Operation, one_of_many};
use crate::lane::{Desk, Edit};

pub(crate) struct TakeBack {
    pub(crate) namespace: Name,
    pub(crate) worker: Name,
    pub(crate) runs: Vec<RunId>,
}

impl Operation for TakeBack {
    /// How many runs were taken back.
    type Answer = usize;

    fn touches(&self, runs: &mut Vec<RunId>) {
        runs.extend(&self.runs);
    }

    fn plan(&self, desk: &mut Desk<'_>) -> Result<usize, ServerError> {
        let mut count = 0;
        for run in &self.runs {
            let taken = desk.edit(&self.namespace, *run, |head, now, entries| {
                match plan::take_back(head, &self.worker, now, entries) {
                    true => Edit::Changed(true),
                    false => Edit::Unchanged(false),
                }
            });
            match taken {
                // It has ended and was forgotten meanwhile.
                Err(ServerError::RunNotFound(_)) => {}
                taken => count += usize::from(one_of_many(*run, taken)?.unwrap_or(false)),
            }
        }
        Ok(count)
    }
}
