//! Forgetting runs that ended long ago.

use aiki_core::run::plan;
use aiki_core::{Name, RunId, ServerError, Timestamp};

use super::Operation;
use crate::lane::Desk;

pub(crate) struct Retire {
    /// Runs that the store listed as ended.
    pub(crate) runs: Vec<(Name, RunId)>,
    /// Those that ended later are kept.
    pub(crate) until: Timestamp,
}

impl Operation for Retire {
    /// How many runs are gone.
    type Answer = usize;

    fn plan(&self, desk: &mut Desk<'_>) -> Result<usize, ServerError> {
        // One that cannot be read is left aside: nobody would learn what was in it.
        let there = desk.fetch_listed(self.runs.iter().map(|(_, run)| *run).collect())?;
        let mut count = 0;
        for (namespace, run) in self.runs.iter().filter(|(_, run)| there.contains(run)) {
            let head = match desk.run(namespace, *run) {
                Ok(stored) if plan::is_past(&stored.head, self.until) => &stored.head,
                Ok(_) | Err(ServerError::RunNotFound(_)) => continue,
                Err(error) => return Err(error),
            };
            let mut kept = false;
            for other in plan::kept_by(head).collect::<Vec<_>>() {
                kept = kept || desk.is_open(namespace, other)?;
            }
            count += usize::from(!kept && desk.forget(*run));
        }
        Ok(count)
    }
}
