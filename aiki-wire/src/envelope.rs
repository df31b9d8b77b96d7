//! The frame of a call: `{"json": ...}` both ways.

use aiki_core::Payload;
use aiki_core::payload::PayloadError;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::depth::is_deeper_than;
use crate::meta::{self, BadMeta, Changed};
use crate::read::{At, Fields, Invalid};

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

/// The body of a request is not an envelope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each text says what it is")]
pub enum Malformed {
    #[error("the body is not UTF-8: send JSON as UTF-8")]
    NotUtf8,
    #[error("the body is nested deeper than {0} levels: flatten it, or send a part of it as text")]
    TooDeep(usize),
    #[error("the body is not JSON: {0}")]
    NotJson(String),
    #[error("the body is null: send {{\"json\": ...}}")]
    Null,
    #[error(transparent)]
    Meta(#[from] BadMeta),
    #[error("{0}")]
    Envelope(#[from] Invalid),
}

/// Takes the input out of the body of a request; `None` when it is undefined.
///
/// An empty body has no input, and neither has a body that is no object. `meta` is applied. Of a key that is
/// given twice the last one counts.
///
/// # Errors
/// [`Malformed`].
pub fn open_request(body: &[u8], depth_limit: usize) -> Result<Option<Box<RawValue>>, Malformed> {
    let text = std::str::from_utf8(body).map_err(|_| Malformed::NotUtf8)?;
    if text.trim_ascii().is_empty() {
        return Ok(None);
    }
    if is_deeper_than(depth_limit, body) {
        return Err(Malformed::TooDeep(depth_limit));
    }
    let whole: &RawValue = serde_json::from_str(text).map_err(|error| Malformed::NotJson(error.to_string()))?;
    if !whole.get().starts_with('{') {
        return if whole.get() == "null" { Err(Malformed::Null) } else { Ok(None) };
    }
    let fields = Fields::open(whole, &At::ROOT)?;
    let json = fields.raw("json");
    match fields.raw("meta") {
        None => Ok(json.map(ToOwned::to_owned)),
        Some(meta) => Ok(match (meta::apply(json, meta)?, json) {
            (Some(Changed::To(changed)), _) => Some(changed),
            (Some(Changed::Not), Some(json)) => Some(json.to_owned()),
            (Some(Changed::Not) | None, _) => None,
        }),
    }
}

/// Writes the body of an answer: `{}` for a type without content.
///
/// # Errors
/// [`PayloadError::Encode`] when the answer's `Serialize` fails.
pub fn close_answer<T: Serialize>(answer: &T) -> Result<String, PayloadError> {
    Ok(match Payload::encode(answer)? {
        Some(json) => format!(r#"{{"json":{}}}"#, json.as_str()),
        None => "{}".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(body: &str) -> Result<Option<String>, Malformed> {
        open_request(body.as_bytes(), 10).map(|json| json.map(|json| json.get().to_owned()))
    }

    #[test]
    fn a_body_without_input_is_undefined() {
        for body in ["", " \n", "{}", "[]", "[{\"json\":1}]", "42", "\"str\"", "true", r#"{"more":1}"#] {
            assert_eq!(opened(body), Ok(None), "{body}");
        }
        assert_eq!(opened("null"), Err(Malformed::Null));
        assert_eq!(opened(r#"{"json":null}"#), Ok(Some("null".into())));
    }

    #[test]
    fn of_a_key_that_is_given_twice_the_last_counts() {
        assert_eq!(opened(r#"{"json":1,"json":2}"#), Ok(Some("2".into())));
    }

    #[test]
    fn what_is_not_json_says_why() {
        assert_eq!(open_request(b"{\"json\":\"\xff\"}", 10).unwrap_err(), Malformed::NotUtf8);
        assert!(matches!(opened("{bad"), Err(Malformed::NotJson(_))));
        assert!(matches!(opened(r#"{"json":1} more"#), Err(Malformed::NotJson(_))));
        assert_eq!(opened(&"[".repeat(11)), Err(Malformed::TooDeep(10)));
        assert!(matches!(opened(r#"{"json":{},"meta":[[3,"nope"]]}"#), Err(Malformed::Meta(_))));
    }

    #[test]
    fn an_answer_without_content_is_an_empty_envelope() {
        assert_eq!(close_answer(&()).unwrap(), "{}");
        assert_eq!(close_answer(&None::<u8>).unwrap(), r#"{"json":null}"#);
        assert_eq!(close_answer(&vec![1]).unwrap(), r#"{"json":[1]}"#);
    }
}
