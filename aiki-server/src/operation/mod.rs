//! What can be asked of the lane, one file each. An operation looks up its runs on the desk, lets a
//! plan of the core work on them, and answers.

mod cancel;
mod children;
mod claim;
mod claim_ready;
mod control;
mod create;
mod due;
mod event;
mod orphans;
#[cfg(feature = "http")]
mod plain;
mod refresh;
mod release;
mod report;
mod retire;
mod schedule_activate;
mod schedule_fire;
mod schedule_status;
mod take_back;

use aiki_core::{RunId, ServerError};

use crate::lane::Desk;
use crate::storage::ReferenceKey;

pub(crate) use cancel::Cancel;
pub(crate) use claim::{Claim, ClaimAnswer};
pub(crate) use claim_ready::ClaimReadyRuns;
pub(crate) use control::{CancelMany, Command, SetTask};
pub(crate) use create::Create;
pub(crate) use due::Due;
pub(crate) use event::ReceiveEvent;
pub(crate) use orphans::TakeBackOrphans;
#[cfg(feature = "http")]
pub(crate) use plain::{ClaimPlainly, CreateChild, MoveRun, MoveTask, RefreshPlainly};
pub(crate) use refresh::Refresh;
pub(crate) use release::Release;
pub(crate) use report::WriteReport;
pub(crate) use retire::Retire;
pub(crate) use schedule_activate::ActivateScheduleOp;
pub(crate) use schedule_fire::FireSchedules;
pub(crate) use schedule_status::SetScheduleStatus;
pub(crate) use take_back::TakeBack;

/// The answer for one run of several, `None` when this run cannot be read: the others go on without it.
/// Only what is wrong with the store itself is an error.
pub(crate) fn one_of_many<T>(run: RunId, answer: Result<T, ServerError>) -> Result<Option<T>, ServerError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(ServerError::Internal(error)) => {
            tracing::error!(%run, error, "one run of a request was left out");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// A request to the lane.
pub(crate) trait Operation: Send + 'static {
    type Answer: Send + 'static;

    /// The runs that it names, so that a whole batch's are loaded in one go.
    fn touches(&self, _runs: &mut Vec<RunId>) {}

    /// The reference ids that it looks up, so that a whole batch's are looked up in one go.
    fn references(&self, _keys: &mut Vec<ReferenceKey>) {}

    /// Bytes of payload that it brings.
    fn size(&self) -> usize {
        0
    }

    /// Plans it. May be called again when the batch it was planned in was not committed.
    fn plan(&self, desk: &mut Desk<'_>) -> Result<Self::Answer, ServerError>;
}
