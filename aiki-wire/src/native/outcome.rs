//! The answer for one item of a batch.

use aiki_core::server_client::CreatedRun;
use aiki_core::{ServerError, Timestamp};
use serde::{Deserialize, Serialize};

use super::failure::refused;
use crate::error::WireError;

/// The answer for one item of a batch: each succeeds or fails by itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome<T> {
    /// It was done.
    Ok(T),
    /// It was refused.
    Error(WireError),
}

impl<T> Outcome<T> {
    /// As a result, the refusal as it was on the server.
    ///
    /// # Errors
    /// The refusal.
    pub fn into_result(self) -> Result<T, ServerError> {
        match self {
            Outcome::Ok(value) => Ok(value),
            Outcome::Error(error) => Err(refused(error)),
        }
    }
}

/// The answer for one new run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CreateOutcome {
    /// It is there.
    Ok(CreatedRun),
    /// No run was made: the proposed id is not of this time. `now` is the server's.
    Stale {
        /// The time by the server's clock.
        now: Timestamp,
    },
    /// It was refused.
    Error(WireError),
}
