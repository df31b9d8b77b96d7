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
    #[error("others changed the same rows meanwhile, nothing was stored: ask again")]
    Contended,
    #[error("another session holds a lock on these rows for too long, nothing was stored: ask again")]
    Locked,
    #[error("the database cannot be reached, nothing was stored, ask again: {0}")]
    Unreachable(String),
    #[error(
        "the connection to the database was lost while it stored this, it may have taken effect: look whether it did, or \
         ask again in the same words: {0}"
    )]
    Unknown(String),
    #[error(
        "a newer version has changed the database, nothing was stored: stop this server and start the newer version: {0}"
    )]
    Outdated(String),
    #[error("the store cannot keep this text, leave out the character U+0000: {0}")]
    Unfit(String),
}

impl StorageError {
    /// The answer to those whose turn came while the store was away.
    pub(crate) fn away() -> Self {
        StorageError::Unreachable("the connection was lost".into())
    }

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
            StorageError::Unfit(_) => ServerError::Invalid(error.to_string()),
            StorageError::Full
            | StorageError::Conflict(_)
            | StorageError::ScheduleConflict(_)
            | StorageError::Failed(_)
            | StorageError::NotStored(_)
            | StorageError::Contended
            | StorageError::Locked
            | StorageError::Outdated(_)
            | StorageError::Unreachable(_)
            | StorageError::Unknown(_) => ServerError::Unavailable(error.to_string()),
        }
    }
}
