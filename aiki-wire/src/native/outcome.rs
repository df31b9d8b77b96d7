//! The answer for one item of a batch.

use aiki_core::ServerError;
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
