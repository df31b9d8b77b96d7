//! The fields of an object.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserializer as _, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{At, Invalid, Read, Step};

/// An object of a request has at most so many keys. Payloads are not looked into.
pub const MAX_KEYS: usize = 256;

/// An object whose values have not been looked at.
pub struct Fields<'a> {
    entries: BTreeMap<String, &'a RawValue>,
    at: &'a At<'a>,
}

impl<'a> Fields<'a> {
    /// Opens an object.
    ///
    /// # Errors
    /// [`Invalid`] when it is something else, or has more than [`MAX_KEYS`] keys.
    pub fn open(raw: &'a RawValue, at: &'a At<'a>) -> Result<Self, Invalid> {
        if !raw.get().trim_start().starts_with('{') {
            return Err(Invalid::new(at, "an object"));
        }
        let entries = serde_json::Deserializer::from_str(raw.get())
            .deserialize_map(Entries)
            .map_err(|error| Invalid::new(at, format_args!("an object that can be read: {error}")))?;
        Ok(Self { entries, at })
    }

    /// Where the object stands.
    pub fn at(&self) -> &'a At<'a> {
        self.at
    }

    /// The raw value under a key.
    pub fn raw(&self, key: &str) -> Option<&'a RawValue> {
        self.entries.get(key).copied()
    }

    /// Reads a field that has to be there.
    ///
    /// # Errors
    /// [`Invalid`] when it is absent or not what belongs there.
    pub fn need<T: Read>(&self, key: &str) -> Result<T, Invalid> {
        match self.may(key)? {
            Some(value) => Ok(value),
            None => Err(Invalid::new(&self.at.below(Step::Key(key)), "given")),
        }
    }

    /// Reads a field that may be absent. A `null` is not absent.
    ///
    /// # Errors
    /// [`Invalid`] when it is there and not what belongs there.
    pub fn may<T: Read>(&self, key: &str) -> Result<Option<T>, Invalid> {
        self.raw(key).map(|raw| T::read(raw, &self.at.below(Step::Key(key)))).transpose()
    }

    /// The error of a field that has a wrong value.
    pub fn wrong(&self, key: &str, expected: impl fmt::Display) -> Invalid {
        Invalid::new(&self.at.below(Step::Key(key)), expected)
    }
}

struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = BTreeMap<String, &'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = BTreeMap::new();
        while let Some(key) = map.next_key::<String>()? {
            if entries.len() == MAX_KEYS {
                map.next_value::<IgnoredAny>()?;
                return Err(A::Error::custom(format_args!("it has more than {MAX_KEYS} keys")));
            }
            entries.insert(key, map.next_value()?);
        }
        Ok(entries)
    }
}
