//! Moving runs whose time has come.

use aiki_core::run::plan;
use aiki_core::{ServerError, Timestamp};

use super::Operation;
use crate::lane::{Desk, DueRuns, Edit};

pub(crate) struct Due {
    pub(crate) limit: usize,
}

/// What the timer did.
pub(crate) struct DueDone {
    /// Whether there may be more that are due by now.
    pub(crate) more: bool,
    /// When a run that was not looked at is due.
    pub(crate) next: Option<Timestamp>,
}

impl Operation for Due {
    type Answer = DueDone;

    fn plan(&self, desk: &mut Desk<'_>) -> Result<DueDone, ServerError> {
        let DueRuns { runs: due, next, more } = desk.due(self.limit)?;
        for (namespace, run) in &due {
            desk.edit(namespace, *run, |head, now, entries| match plan::due(head, now, entries) {
                plan::Due::Ready | plan::Due::Moved => Edit::Changed(()),
                plan::Due::NotYet => Edit::Unchanged(()),
            })?;
        }
        Ok(DueDone { more, next })
    }
}
