//! What a caller may say about a run when starting it.

use serde::{Deserialize, Serialize};

use crate::name::Name;
use crate::retry::RetryStrategy;

/// Options that stay with a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunOptions {
    /// How the run itself is retried when its handler fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryStrategy>,
    /// The pool of workers that may take the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<Name>,
}

/// What happens when a reference id is already taken by a run with another input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConflictPolicy {
    /// The start is refused.
    #[default]
    Error,
    /// The existing run is returned.
    ReturnExisting,
}

/// Begins the reference ids that clients give to starts without one, so that a start that is sent again makes no
/// second run. Nobody is shown them.
pub const HIDDEN_REFERENCE: &str = "\u{1}start:";

/// A run's reference id as callers see it.
pub(crate) fn shown_reference(reference_id: Option<&String>) -> Option<String> {
    reference_id.filter(|id| !id.starts_with(HIDDEN_REFERENCE)).cloned()
}

/// The caller's own name for a run, unique per workflow version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reference {
    /// The caller's id.
    pub id: String,
    /// What to do when the id is taken by a run with another input.
    #[serde(default)]
    pub conflict_policy: ConflictPolicy,
}
