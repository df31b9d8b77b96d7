//! The frame of a call: `{"json": ...}` both ways.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// What the sender wraps its data in.
#[derive(Clone, Debug, Serialize)]
pub struct Enveloped<T> {
    /// The data.
    pub json: T,
}

/// A request or answer before its data is looked at.
#[derive(Debug, Default, Deserialize)]
pub struct Opened<'a> {
    /// The data, raw; absent when there is none.
    #[serde(borrow, default)]
    pub json: Option<&'a RawValue>,
    /// Positions in the data whose type is not plain JSON (contract, section 1.2), raw.
    #[serde(borrow, default)]
    pub meta: Option<&'a RawValue>,
}

impl<T> Enveloped<T> {
    /// Wraps data.
    pub fn new(json: T) -> Self {
        Self { json }
    }
}
