//! Which ended runs may be forgotten.

use crate::id::RunId;
use crate::run::RunHead;
use crate::time::Timestamp;

/// Whether a run has ended at `until` or before. One whose end was not kept ended before that was.
pub fn is_past(head: &RunHead, until: Timestamp) -> bool {
    head.state.is_terminal() && head.ended_at.is_none_or(|ended| ended <= until)
}

/// The runs that the run is a child of: it stays for as long as one of them goes on, which may ask for it again.
pub fn kept_by(head: &RunHead) -> impl Iterator<Item = RunId> + '_ {
    head.parent.into_iter().chain(head.listeners.iter().map(|listener| listener.run))
}
