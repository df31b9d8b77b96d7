//! The rules of single values.

use std::num::NonZeroU64;
use std::ops::Deref;

use aiki_core::{Name, Payload};
use serde::{Deserializer as _, Serialize};
use serde_json::value::RawValue;

use super::{At, Invalid, Read, Step};

/// The largest whole number that every JSON peer reads exactly.
pub const MAX_WHOLE: u64 = (1 << 53) - 1;
/// A list of a request has at most so many elements.
pub const MAX_ITEMS: usize = 10_000;

/// A text of at least one character, none of them NUL: stores cannot keep that in a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Str1(String);

impl Str1 {
    /// The text; `None` when it is empty or has a NUL.
    pub fn new(text: impl Into<String>) -> Option<Self> {
        Some(text.into()).filter(|text| !text.is_empty() && !text.contains('\0')).map(Self)
    }

    /// The text.
    pub fn into_string(self) -> String {
        self.0
    }
}

impl Deref for Str1 {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl From<Str1> for String {
    fn from(text: Str1) -> Self {
        text.0
    }
}

impl From<Str1> for Name {
    fn from(text: Str1) -> Self {
        Name::from(text.0)
    }
}

/// Milliseconds above (`ABOVE` = 1) or from (`ABOVE` = 0) zero. A fraction is rounded up, so that a wait is
/// never shorter than asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct WholeAbove<const ABOVE: u8>(pub u64);

impl Read for String {
    fn read(raw: &RawValue, at: &At<'_>) -> Result<Self, Invalid> {
        serde_json::from_str(raw.get()).map_err(|_| Invalid::new(at, "a text"))
    }
}

impl Read for Str1 {
    fn read(raw: &RawValue, at: &At<'_>) -> Result<Self, Invalid> {
        String::read(raw, at)
            .ok()
            .and_then(Str1::new)
            .ok_or_else(|| Invalid::new(at, "a text, not empty and without NUL"))
    }
}

/// A text for people. Half of a surrogate pair, which JavaScript can send, is replaced: what an error says must not
/// keep it from being told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prose(pub String);

impl Read for Prose {
    fn read(raw: &RawValue, at: &At<'_>) -> Result<Self, Invalid> {
        struct Bytes;
        impl serde::de::Visitor<'_> for Bytes {
            type Value = String;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<String, E> {
                Ok(text.to_owned())
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<String, E> {
                Ok(String::from_utf8_lossy(bytes).into_owned())
            }
        }
        // Only as bytes does serde_json let half a pair pass; a list of numbers would pass as well.
        let text = raw.get().trim_start();
        let read = |text| serde_json::Deserializer::from_str(text).deserialize_bytes(Bytes).ok();
        let found = text.starts_with('"').then(|| read(text)).flatten();
        found.map(Self).ok_or_else(|| Invalid::new(at, "a text"))
    }
}

impl Read for bool {
    fn read(raw: &RawValue, at: &At<'_>) -> Result<Self, Invalid> {
        serde_json::from_str(raw.get()).map_err(|_| Invalid::new(at, "true or false"))
    }
}

impl Read for Payload {
    fn read(raw: &RawValue, at: &At<'_>) -> Result<Self, Invalid> {
        Payload::from_json(raw.get()).map_err(|_| Invalid::new(at, "JSON"))
    }
}

fn number(raw: &RawValue) -> Option<f64> {
    // A JSON text that starts like a number is one.
    let text = raw.get().trim();
    text.starts_with(|c: char| c == '-' || c.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn whole(raw: &RawValue) -> Option<u64> {
    let found = number(raw)?;
    // The cast is exact: a whole number within the bounds.
    (found.fract() == 0.0 && (0.0..=MAX_WHOLE as f64).contains(&found)).then_some(found as u64)
}

impl Read for u64 {
    fn read(raw: &RawValue, at: &At<'_>) -> Result<Self, Invalid> {
        whole(raw).ok_or_else(|| Invalid::new(at, format_args!("a whole number from 0 to {MAX_WHOLE}")))
    }
}

impl Read for NonZeroU64 {
    fn read(raw: &RawValue, at: &At<'_>) -> Result<Self, Invalid> {
        let found = whole(raw).and_then(NonZeroU64::new);
        found.ok_or_else(|| Invalid::new(at, format_args!("a whole number from 1 to {MAX_WHOLE}")))
    }
}

impl<const ABOVE: u8> Read for WholeAbove<ABOVE> {
    fn read(raw: &RawValue, at: &At<'_>) -> Result<Self, Invalid> {
        let fits = |found: &f64| *found <= MAX_WHOLE as f64 && if ABOVE == 0 { *found >= 0.0 } else { *found > 0.0 };
        let found = number(raw).filter(fits).map(|found| Self(found.ceil() as u64));
        found.ok_or_else(|| {
            let bound = if ABOVE == 0 { "of at least 0" } else { "above 0" };
            Invalid::new(at, format_args!("a number {bound}, and at most {MAX_WHOLE}"))
        })
    }
}

impl<T: Read> Read for Vec<T> {
    fn read(raw: &RawValue, at: &At<'_>) -> Result<Self, Invalid> {
        read_list(raw, at, 0, MAX_ITEMS)
    }
}

/// Reads a list of `least` to `most` elements.
///
/// # Errors
/// [`Invalid`] when it is something else, has more or fewer elements, or an element is wrong.
pub fn read_list<T: Read>(raw: &RawValue, at: &At<'_>, least: usize, most: usize) -> Result<Vec<T>, Invalid> {
    let elements: Elements<'_> = serde_json::from_str(raw.get()).map_err(|_| Invalid::new(at, "a list"))?;
    let elements = elements.0;
    if elements.len() < least || elements.len() > most {
        return Err(Invalid::new(at, format_args!("a list of {least} to {most} elements")));
    }
    elements.into_iter().enumerate().map(|(index, raw)| T::read(raw, &at.below(Step::Index(index)))).collect()
}

/// At most one element more than [`MAX_ITEMS`]; the rest is skipped.
struct Elements<'a>(Vec<&'a RawValue>);

impl<'de> serde::Deserialize<'de> for Elements<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> serde::de::Visitor<'de> for List {
            type Value = Vec<&'de RawValue>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut elements = Vec::new();
                while elements.len() <= MAX_ITEMS {
                    match seq.next_element()? {
                        Some(element) => elements.push(element),
                        None => return Ok(elements),
                    }
                }
                while seq.next_element::<serde::de::IgnoredAny>()?.is_some() {}
                Ok(elements)
            }
        }
        deserializer.deserialize_seq(List).map(Elements)
    }
}

/// Reads one of a few names.
///
/// # Errors
/// [`Invalid`] lists the names.
pub fn read_name<T: Copy>(raw: &RawValue, at: &At<'_>, all: &[T], name: fn(T) -> &'static str) -> Result<T, Invalid> {
    let text = serde_json::from_str::<String>(raw.get()).ok();
    let found = text.and_then(|text| all.iter().copied().find(|value| name(*value) == text));
    found.ok_or_else(|| {
        let names: Vec<_> = all.iter().map(|value| name(*value)).collect();
        Invalid::new(at, format_args!("one of {}", names.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    fn read<T: Read>(text: &str) -> Result<T, String> {
        T::read(&raw(text), &At::ROOT).map_err(|error| error.to_string())
    }

    #[test]
    fn a_whole_number_may_be_written_with_a_point_but_not_with_a_fraction() {
        for (text, value) in [("0", 0), ("-0", 0), ("1.0", 1), ("1e3", 1000), ("9007199254740991", MAX_WHOLE)] {
            assert_eq!(read::<u64>(text), Ok(value), "{text}");
        }
        for text in ["1.5", "-1", "9007199254740992", "1e400", "\"1\"", "null", "true", "[1]"] {
            assert!(read::<u64>(text).unwrap_err().contains("a whole number from 0"), "{text}");
        }
        assert!(read::<NonZeroU64>("0").unwrap_err().contains("from 1"));
    }

    #[test]
    fn a_fraction_of_a_millisecond_is_waited_for() {
        assert_eq!(read::<WholeAbove<1>>("10.5"), Ok(WholeAbove(11)));
        assert_eq!(read::<WholeAbove<1>>("1e-9"), Ok(WholeAbove(1)));
        assert_eq!(read::<WholeAbove<0>>("0"), Ok(WholeAbove(0)));
        assert!(read::<WholeAbove<1>>("0").is_err() && read::<WholeAbove<0>>("-0.1").is_err());
        assert!(read::<WholeAbove<0>>("1e300").is_err());
    }

    #[test]
    fn nothing_else_passes_for_a_text() {
        assert_eq!(read::<Str1>("\"x\"").unwrap().deref(), "x");
        for text in ["\"\"", "1", "null", "[\"x\"]", "{}"] {
            assert!(read::<Str1>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn half_a_surrogate_pair_does_not_keep_an_error_from_being_told() {
        assert_eq!(read::<Prose>(r#""cut \ud83d here""#).unwrap().0.chars().filter(char::is_ascii).count(), 9);
        assert_eq!(read::<Prose>(r#""\ud83d\ude80 \n""#).unwrap().0, "🚀 \n");
        assert_eq!(read::<Prose>(r#""""#).unwrap().0, "");
        for text in ["1", "null", "[1]", "{}"] {
            assert!(read::<Prose>(text).is_err(), "{text}");
        }
        assert!(read::<Str1>(r#""cut \ud83d here""#).is_err() && read::<Str1>(r#""a\u0000""#).is_err());
    }

    #[test]
    fn a_list_that_is_too_long_says_how_many_fit() {
        let long = raw(&format!("[{}1]", "1,".repeat(MAX_ITEMS)));
        let error = Vec::<u64>::read(&long, &At::ROOT).unwrap_err().to_string();
        assert!(error.contains("0 to 10000 elements"), "{error}");
        assert!(read_list::<u64>(&raw("[]"), &At::ROOT, 1, 10).is_err());
        let wrong = read_list::<u64>(&raw("[1,\"x\"]"), &At::ROOT, 1, 10).unwrap_err().to_string();
        assert!(wrong.starts_with("`[1]` must be"), "{wrong}");
    }
}
