//! JSON payloads: inputs and outputs that travel as raw text and are parsed only at their two ends.

use std::any::type_name;
use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// The largest payload that is accepted unless configured otherwise: 1 MB.
pub const DEFAULT_PAYLOAD_LIMIT: usize = 1_000_000;

/// A JSON value as raw text. Cloning is cheap; nothing between sender and receiver parses it.
#[derive(Clone)]
pub struct Payload(Arc<RawValue>);

/// A value could not become JSON, or JSON could not become a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// The value's `Serialize` failed.
    #[error("cannot write {type_name} as JSON: {reason}")]
    Encode {
        /// The Rust type that was to be written.
        type_name: &'static str,
        /// What serde said.
        reason: String,
    },
    /// The JSON does not have the shape of the type.
    #[error("cannot read {type_name} from JSON at `{path}`: {reason}")]
    Decode {
        /// The Rust type that was to be read.
        type_name: &'static str,
        /// Where in the JSON, as a serde path such as `items[3].cents`; `.` is the root.
        path: String,
        /// What serde said.
        reason: String,
    },
    /// The text is not JSON.
    #[error("not JSON: {0}")]
    NotJson(String),
    /// The payload is larger than the limit.
    #[error(
        "the payload has {size} bytes, the limit is {limit}: store large data elsewhere and pass a reference to it"
    )]
    TooLarge {
        /// Size of the JSON text in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
}

impl Payload {
    /// Writes `value` as JSON. A type without content, such as `()`, is no payload at all.
    ///
    /// # Errors
    /// [`PayloadError::Encode`] when the type's `Serialize` fails.
    pub fn encode<T: Serialize>(value: &T) -> Result<Option<Self>, PayloadError> {
        let payload = Self::of(value)?;
        let nothing = size_of::<T>() == 0 && payload.as_str() == "null";
        Ok((!nothing).then_some(payload))
    }

    /// Writes `value` as JSON, whatever its type.
    ///
    /// # Errors
    /// [`PayloadError::Encode`] when the type's `Serialize` fails.
    pub fn of<T: Serialize>(value: &T) -> Result<Self, PayloadError> {
        serde_json::value::to_raw_value(value)
            .map(|raw| Self(Arc::from(raw)))
            .map_err(|error| PayloadError::Encode { type_name: type_name::<T>(), reason: error.to_string() })
    }

    /// Reads a value; no payload reads as `null`.
    ///
    /// # Errors
    /// [`PayloadError::Decode`] with the serde path of the first mismatch.
    pub fn decode<T: DeserializeOwned>(payload: Option<&Self>) -> Result<T, PayloadError> {
        let text = payload.map_or("null", Payload::as_str);
        serde_json::from_str(text).or_else(|_| {
            // Only a failure pays for finding out where it is.
            let mut reader = serde_json::Deserializer::from_str(text);
            serde_path_to_error::deserialize(&mut reader).map_err(|error| PayloadError::Decode {
                type_name: type_name::<T>(),
                path: error.path().to_string(),
                reason: error.inner().to_string(),
            })
        })
    }

    /// Takes JSON text as it is.
    ///
    /// # Errors
    /// [`PayloadError::NotJson`] when the text is not one JSON value.
    pub fn from_json(text: impl Into<String>) -> Result<Self, PayloadError> {
        RawValue::from_string(text.into())
            .map(|raw| Self(Arc::from(raw)))
            .map_err(|error| PayloadError::NotJson(error.to_string()))
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// Refuses a payload over `limit` bytes.
    ///
    /// # Errors
    /// [`PayloadError::TooLarge`].
    pub fn check_size(payload: Option<&Self>, limit: usize) -> Result<(), PayloadError> {
        match payload.map(|payload| payload.as_str().len()) {
            Some(size) if size > limit => Err(PayloadError::TooLarge { size, limit }),
            _ => Ok(()),
        }
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Payload {}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({})", self.as_str())
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(|raw| Self(Arc::from(raw)))
    }
}

/// For `#[serde(default, deserialize_with = "...")]`: a present `null` stays `Some(null)`, only an
/// absent key is `None`.
pub fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Payload>, D::Error> {
    Payload::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Order {
        #[allow(dead_code)]
        items: Vec<Item>,
    }
    #[derive(Debug, Deserialize)]
    struct Item {
        #[allow(dead_code)]
        cents: u64,
    }

    #[test]
    fn a_mismatch_names_its_place() {
        let payload = Payload::from_json(r#"{"items":[{"cents":1},{"cents":"two"}]}"#).unwrap();
        let error = Payload::decode::<Order>(Some(&payload)).unwrap_err().to_string();
        assert!(error.contains("items[1].cents"), "{error}");
    }

    #[test]
    fn unit_is_no_payload_and_none_is_null() {
        assert_eq!(Payload::encode(&()).unwrap(), None);
        assert_eq!(Payload::encode(&None::<u8>).unwrap().unwrap().as_str(), "null");
        Payload::decode::<()>(None).unwrap();
    }

    #[test]
    fn absent_and_null_stay_distinct() {
        #[derive(Deserialize)]
        struct Holder {
            #[serde(default, deserialize_with = "present")]
            output: Option<Payload>,
        }
        let null: Holder = serde_json::from_str(r#"{"output":null}"#).unwrap();
        let absent: Holder = serde_json::from_str("{}").unwrap();
        assert_eq!(null.output.unwrap().as_str(), "null");
        assert!(absent.output.is_none());
    }

    #[test]
    fn a_payload_over_the_limit_is_refused() {
        let payload = Payload::from_json("\"abcdef\"").unwrap();
        assert!(Payload::check_size(Some(&payload), 8).is_ok());
        assert_eq!(Payload::check_size(Some(&payload), 7), Err(PayloadError::TooLarge { size: 8, limit: 7 }));
    }
}
