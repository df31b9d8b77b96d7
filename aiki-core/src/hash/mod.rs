//! The input hash: the identity of a payload, computed over its JSON text.
//!
//! `hash(x)` is the lower-case hex SHA-256 of the canonical text of `{input: x}`. Canonical means: no white space,
//! keys in order of their UTF-16 code units, strings and numbers as ECMAScript's `JSON.stringify` writes them.
//! The text is rewritten without going through Rust strings, which cannot hold a lone surrogate.

mod canonical;

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use canonical::Rewriter;

/// Arrays and objects may nest this deep.
pub const MAX_DEPTH: usize = 128;

/// An input cannot be hashed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// The text is not one JSON value.
    #[error("the input is not JSON: expected {expected} at byte {offset}; pass one complete JSON value")]
    NotJson {
        /// Byte offset into the input text.
        offset: usize,
        /// What should have been there.
        expected: &'static str,
    },
    /// Arrays and objects nest deeper than [`MAX_DEPTH`].
    #[error("the input nests deeper than {MAX_DEPTH} levels at byte {offset}: flatten it or send a part as a string")]
    TooDeep {
        /// Byte offset into the input text of the bracket that is one too many.
        offset: usize,
    },
}

/// The hash of an input. The sender computes it; everybody else stores and compares it as opaque text, because a
/// foreign sender may use any hash function.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InputHash(String);

impl InputHash {
    /// The text of the hash.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InputHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<String> for InputHash {
    fn from(text: String) -> Self {
        Self(text)
    }
}

/// Hashes an input given as JSON text; `None` is no input, which differs from `null`.
///
/// # Errors
/// [`HashError`] when the text is not one JSON value or nests too deep.
pub fn input_hash(input: Option<&str>) -> Result<InputHash, HashError> {
    let digest = Sha256::digest(canonical(input)?.as_bytes());
    let hex = digest.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    Ok(InputHash(hex.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()))
}

/// The text that [`input_hash`] hashes: `{}` for no input, else `{"input":...}`.
///
/// Of equal keys the last one wins. Numbers go through `f64`; one that overflows becomes `null`.
///
/// # Errors
/// [`HashError`] when the text is not one JSON value or nests too deep.
pub fn canonical(input: Option<&str>) -> Result<String, HashError> {
    let Some(text) = input else { return Ok("{}".to_owned()) };
    let mut out = String::with_capacity(text.len() + 10);
    out.push_str("{\"input\":");
    let mut out = Rewriter::new(text, out).whole()?;
    out.push('}');
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inner(text: &str) -> String {
        let whole = canonical(Some(text)).unwrap();
        whole["{\"input\":".len()..whole.len() - 1].to_owned()
    }

    #[test]
    fn numbers_are_written_as_ecmascript_does() {
        for (text, expected) in [
            ("-0", "0"),
            ("-0.0e5", "0"),
            ("1e400", "null"),
            ("-1e400", "null"),
            ("1e-400", "0"),
            ("9007199254740993", "9007199254740992"),
            ("999999999999999", "999999999999999"),
            ("18446744073709551615", "18446744073709552000"),
            ("12.340", "12.34"),
            ("5E+1", "50"),
        ] {
            assert_eq!(inner(text), expected, "{text}");
        }
    }

    #[test]
    fn strings_are_unescaped_and_escaped_again() {
        for (text, expected) in [
            (r#""\ud83d\ude80""#, "\"🚀\""),
            (r#""\ude80\ud83d""#, r#""\ude80\ud83d""#),
            (r#""\uD83D\uD83D\uDE80""#, "\"\\ud83d🚀\""),
            (r#""\uD83Dx""#, r#""\ud83dx""#),
            (r#""\u0041\ude80""#, r#""A\ude80""#),
            (r#""\u000b\u0022\u005c\/\u000A""#, r#""\u000b\"\\/\n""#),
        ] {
            assert_eq!(inner(text), expected, "{text}");
        }
    }

    #[test]
    fn keys_sort_by_what_they_stand_for_and_the_last_of_equals_wins() {
        for (text, expected) in [
            (r#"{"b":1,"a":2,"b":3}"#, r#"{"a":2,"b":3}"#),
            (r#"{"a":1,"\u0061":{"d":1,"c":2}}"#, r#"{"a":{"c":2,"d":1}}"#),
            // A line feed sorts before a letter although its escape starts with a backslash.
            (r#"{"A":1,"\n":2,"\"":3,"\u0001":4,"]":5,"\\":6}"#, r#"{"\u0001":4,"\n":2,"\"":3,"A":1,"\\":6,"]":5}"#),
            (
                r#"{"\uff21":1,"\ud83d":2,"\ud83d\ude80":3,"\ud83c":4}"#,
                "{\"\\ud83c\":4,\"\\ud83d\":2,\"🚀\":3,\"Ａ\":1}",
            ),
        ] {
            assert_eq!(inner(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_json_is_refused_where_it_breaks() {
        for (text, offset) in [
            ("", 0),
            (" nul", 1),
            ("1 2", 2),
            ("01", 2),
            ("-", 1),
            ("1.", 2),
            ("1e+", 3),
            ("[1,]", 3),
            ("[1 2]", 3),
            ("{a:1}", 1),
            (r#"{"a" 1}"#, 5),
            (r#"{"a":1,}"#, 7),
            (r#""é"#, 3),
            ("\"a\nb\"", 2),
            (r#""\x""#, 1),
            (r#""\u+041""#, 1),
            (r#""\ud83d\u12é""#, 7),
        ] {
            let error = canonical(Some(text)).unwrap_err();
            assert!(matches!(error, HashError::NotJson { offset: found, .. } if found == offset), "{text}: {error}");
        }
    }

    #[test]
    fn depth_is_limited() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(inner(&nested(MAX_DEPTH)), nested(MAX_DEPTH));
        assert_eq!(canonical(Some(&nested(MAX_DEPTH + 1))), Err(HashError::TooDeep { offset: MAX_DEPTH }));
    }
}
