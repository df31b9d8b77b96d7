//! Reading a request: exact rules, and errors that name the place.
//!
//! serde's derived readers take arrays for objects, refuse what does not belong to the chosen variant,
//! and say `null` where a key is absent. The contract does none of that, so requests are read by hand:
//! an object becomes [`Fields`] of raw texts, and each field is read by the rule of its type.
//!
//! A key that is given twice counts the last time, as everywhere in JavaScript. Unknown keys are ignored.

mod at;
mod fields;
mod value;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

pub use at::{At, Step};
pub use fields::{Fields, MAX_KEYS};
pub use value::{MAX_ITEMS, MAX_WHOLE, Prose, Str1, WholeAbove, read_list, read_name};

/// The input of a call is not what the procedure takes. The text names the place and what belongs there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(String);

impl Invalid {
    /// A value is not what belongs at its place.
    pub fn new(at: &At<'_>, expected: impl std::fmt::Display) -> Self {
        Self(format!("{at} must be {expected}"))
    }

    /// Anything else that is wrong.
    pub fn other(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// Reads one value.
pub trait Read: Sized {
    /// Reads a value that is there.
    ///
    /// # Errors
    /// [`Invalid`] names the place.
    fn read(raw: &RawValue, at: &At<'_>) -> Result<Self, Invalid>;
}

/// The input of a procedure, which may be absent altogether.
pub trait Input: Sized {
    /// Reads the input; `None` when the call has none.
    ///
    /// # Errors
    /// [`Invalid`] names the place.
    fn input(raw: Option<&RawValue>) -> Result<Self, Invalid>;
}

impl<T: Read> Input for T {
    fn input(raw: Option<&RawValue>) -> Result<Self, Invalid> {
        match raw {
            Some(raw) => T::read(raw, &At::ROOT),
            None => Err(Invalid::new(&At::ROOT, "given: send {\"json\": ...} as application/json")),
        }
    }
}

/// Reads an input by its type's own `Deserialize`. No input reads as `null`.
///
/// # Errors
/// [`Invalid`] names the place.
pub fn by_serde<T: DeserializeOwned>(raw: Option<&RawValue>) -> Result<T, Invalid> {
    let text = raw.map_or("null", RawValue::get);
    serde_json::from_str(text).or_else(|_| {
        // Only a failure pays for finding out where it is.
        let mut reader = serde_json::Deserializer::from_str(text);
        serde_path_to_error::deserialize(&mut reader)
            .map_err(|error| Invalid::other(format!("`{}`: {}", error.path(), error.inner())))
    })
}
