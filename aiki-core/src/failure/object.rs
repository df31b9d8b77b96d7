//! The written form of an error.

use std::error::Error;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::payload::{Payload, present};

/// Longest error text that is kept, in bytes; longer ones are cut.
const MAX_TEXT: usize = 16 * 1024;
/// Causes below this depth are dropped.
const MAX_CAUSES: usize = 16;

/// An error as it is stored and sent: name, message, cause chain and, for typed errors, its data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorObject {
    /// What went wrong, for people.
    pub message: String,
    /// The kind of error: a type's name.
    pub name: String,
    /// A stack trace, where the language has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<String>,
    /// The error that caused this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Box<ErrorObject>>,
    /// The error value itself as JSON, when its type can be written. Peers that do not know this
    /// field drop it.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub data: Option<Payload>,
}

impl ErrorObject {
    /// An error with a name and a message.
    pub fn new(name: impl Into<String>, message: impl Into<String>) -> Self {
        Self { name: name.into(), message: shorten(message.into()), ..Self::default() }
    }

    /// Writes down an error and its chain of sources.
    pub fn from_error<E: Error + ?Sized>(name: &str, error: &E) -> Self {
        let mut object = Self::new(name, error.to_string());
        object.cause = causes(error.source(), 0);
        object
    }
}

fn causes(source: Option<&(dyn Error + 'static)>, depth: usize) -> Option<Box<ErrorObject>> {
    let error = source.filter(|_| depth < MAX_CAUSES)?;
    let mut object = ErrorObject::new("Error", error.to_string());
    object.cause = causes(error.source(), depth + 1);
    Some(Box::new(object))
}

fn shorten(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        let end = (0..=MAX_TEXT).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

impl fmt::Display for ErrorObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        let mut last = &self.message;
        let mut cause = self.cause.as_deref();
        while let Some(error) = cause {
            // Many errors already print their source; saying it twice helps nobody.
            if !last.contains(error.message.as_str()) {
                write!(f, ": {}", error.message)?;
            }
            last = &error.message;
            cause = error.cause.as_deref();
        }
        Ok(())
    }
}

impl Error for ErrorObject {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_of_sources_is_kept() {
        let inner = std::io::Error::other("disk gone");
        let outer = std::io::Error::other(Outer(inner));
        let object = ErrorObject::from_error("Outer", &outer);
        assert_eq!(object.cause.as_ref().unwrap().message, "disk gone");
        assert_eq!(object.to_string(), "saving failed: disk gone");
    }

    #[test]
    fn a_huge_message_is_cut_at_a_character() {
        let object = ErrorObject::new("E", "ä".repeat(MAX_TEXT));
        assert!(object.message.len() <= MAX_TEXT + 3);
    }

    #[derive(Debug)]
    struct Outer(std::io::Error);
    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("saving failed")
        }
    }
    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }
}
