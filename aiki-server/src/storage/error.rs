//! What can go wrong in a store.

use aiki_core::{RunId, ScheduleId, ServerError};

/// Why the store did not do what was asked. Nothing was written then.
///
/// The texts reach callers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StorageError {
    #[error("the disk is full, nothing was stored: free some space, the server goes on by itself")]
    Full,
    #[error("run {0} was changed by somebody else, nothing was stored: is another program writing to this store?")]
    Conflict(RunId),
    #[error("schedule {0} was changed by somebody else, nothing was stored: is another program writing to this store?")]
    ScheduleConflict(ScheduleId),
    #[error("the store is damaged or was written by a newer version, restore it from a copy or use that version: {0}")]
    Damaged(String),
    #[error("the store could not be read, ask again: {0}")]
    Failed(String),
    #[error("the store failed, nothing was stored, ask again: {0}")]
    NotStored(String),
}

impl StorageError {
    /// What failed in the middle of a commit was not stored.
    pub(crate) fn while_writing(self) -> Self {
        match self {
            StorageError::Failed(reason) => StorageError::NotStored(reason),
            error => error,
        }
    }
}

impl From<StorageError> for ServerError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Damaged(_) => ServerError::Internal(error.to_string()),
            StorageError::Full
            | StorageError::Conflict(_)
            | StorageError::ScheduleConflict(_)
            | StorageError::Failed(_)
            | StorageError::NotStored(_) => ServerError::Unavailable(error.to_string()),
        }
    }
}
