//! What a client asks first.

use aiki_core::Name;
use serde::{Deserialize, Serialize};

use super::call;

/// Which versions of these procedures the client speaks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Negotiate {
    /// The versions.
    pub versions: Vec<u32>,
}

/// The version that both speak, and what the server allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Negotiated {
    /// The version.
    pub version: u32,
    /// The namespace that the caller's key belongs to.
    pub namespace: Name,
    /// The largest payload, in bytes.
    pub payload_limit: usize,
    /// How many items one request may have.
    pub max_items: usize,
    /// How long a long poll may last, in milliseconds.
    pub max_wait_ms: u64,
}

call!(Negotiate, "negotiateV1" -> Negotiated);
