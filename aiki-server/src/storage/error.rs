//! What can go wrong in a store.

use aiki_core::{RunId, ServerError};

/// Why the store did not do what was asked. Nothing was written then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StorageError {
    #[error("the disk is full, nothing was stored: free some space, the server goes on by itself")]
    Full,
    #[error("run {0} was changed by somebody else, nothing was stored: is another program writing to this store?")]
    Conflict(RunId),
    #[error("the store is damaged or was written by a newer version: {0}")]
    Damaged(String),
    #[error("the store failed, nothing was stored: {0}")]
    Failed(String),
}

impl From<StorageError> for ServerError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Damaged(_) => ServerError::Internal(error.to_string()),
            StorageError::Full | StorageError::Conflict(_) | StorageError::Failed(_) => {
                ServerError::Unavailable(error.to_string())
            }
        }
    }
}
