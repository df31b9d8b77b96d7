//! What `meta` says about the input (contract, section 1.2).
//!
//! An entry is `[type, key, index, ...]`: the value at that place was not plain JSON for its sender. Dates,
//! URLs, big integers, regular expressions, sets and maps are kept as the plain JSON that stands there. What was NaN,
//! or `undefined` in a list, is null, whatever stands there; a key that was `undefined` is dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// At most so many entries.
pub const MAX_META: usize = 10_000;
/// A place is at most so deep.
const MAX_STEPS: usize = 128;
/// The highest type code.
const MAX_CODE: u64 = 7;
const NAN: u64 = 2;
const UNDEFINED: u64 = 3;

/// One step of a place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(untagged)]
enum Segment {
    Index(u64),
    Key(String),
}

/// The places, as a tree.
#[derive(Debug, Default)]
struct Places {
    below: BTreeMap<Segment, Places>,
    undefined: bool,
    /// Nothing but null can stand for it.
    null: bool,
}

/// What is wrong with `meta`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`meta` cannot be applied: {0}")]
pub struct BadMeta(String);

fn bad(text: impl Into<String>) -> BadMeta {
    BadMeta(text.into())
}

/// Checks `meta` against the input and applies it. `Ok(None)` means that the input is undefined; a changed
/// input is returned as new text.
///
/// # Errors
/// [`BadMeta`] when an entry cannot be read or names a place that is not there.
pub fn apply(json: Option<&RawValue>, meta: &RawValue) -> Result<Option<Changed>, BadMeta> {
    let places = places(meta)?;
    if places.below.is_empty() && !places.undefined {
        return Ok(json.map(|_| Changed::Not));
    }
    if places.undefined {
        return Ok(None);
    }
    let text = json.ok_or_else(|| bad("there is no input"))?.get();
    let mut walk = Walk { places: &places, changes: false };
    (&mut walk).deserialize(&mut serde_json::Deserializer::from_str(text)).map_err(|error| bad(error.to_string()))?;
    if !walk.changes {
        return Ok(Some(Changed::Not));
    }
    let mut value: Value = serde_json::from_str(text).map_err(|error| bad(error.to_string()))?;
    write_out(&mut value, &places);
    let changed = serde_json::value::to_raw_value(&value).map_err(|error| bad(error.to_string()))?;
    Ok(Some(Changed::To(changed)))
}

/// What became of the input.
#[derive(Debug)]
pub enum Changed {
    /// Nothing.
    Not,
    /// It is this one now.
    To(Box<RawValue>),
}

fn places(meta: &RawValue) -> Result<Places, BadMeta> {
    let entries: Vec<Vec<Segment>> =
        serde_json::from_str(meta.get()).map_err(|_| bad("it must be a list of [type, key, index, ...]"))?;
    if entries.len() > MAX_META {
        return Err(bad(format!("it has {} entries, {MAX_META} is the most", entries.len())));
    }
    let mut root = Places::default();
    for entry in entries {
        if entry.len() > MAX_STEPS {
            return Err(bad(format!("an entry has {} parts, {MAX_STEPS} is the most", entry.len())));
        }
        let mut segments = entry.into_iter();
        let code = match segments.next() {
            Some(Segment::Index(code)) if code <= MAX_CODE => code,
            _ => return Err(bad(format!("an entry must start with a type from 0 to {MAX_CODE}"))),
        };
        let place = segments.fold(&mut root, |place, segment| place.below.entry(segment).or_default());
        place.undefined |= code == UNDEFINED;
        place.null |= code == UNDEFINED || code == NAN;
    }
    Ok(root)
}

fn write_out(value: &mut Value, places: &Places) {
    for (segment, place) in &places.below {
        match (&mut *value, segment) {
            (Value::Object(fields), Segment::Key(key)) if place.undefined => {
                fields.remove(key);
            }
            (Value::Object(fields), Segment::Key(key)) => {
                fields.get_mut(key).into_iter().for_each(|value| write_out(value, place));
            }
            (Value::Array(elements), Segment::Index(index)) => {
                let element = usize::try_from(*index).ok().and_then(|index| elements.get_mut(index));
                element.into_iter().for_each(|value| write_out(value, place));
            }
            _ => {}
        }
    }
    if places.null {
        *value = Value::Null;
    }
}

/// Sees that every place is there, in one go over the text.
struct Walk<'a> {
    places: &'a Places,
    /// Whether the text has to be written anew.
    changes: bool,
}

impl Walk<'_> {
    fn all_found<E: serde::de::Error>(&self, found: usize) -> Result<(), E> {
        if found < self.places.below.len() {
            return Err(E::custom("it names a place that the input does not have"));
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for &mut Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.places.below.is_empty() {
            if self.places.null {
                self.changes |= <Option<IgnoredAny>>::deserialize(deserializer)?.is_some();
                return Ok(());
            }
            return IgnoredAny::deserialize(deserializer).map(drop);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &mut Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or a list at the place that an entry names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut found = BTreeSet::new();
        while let Some(key) = map.next_key::<String>()? {
            let segment = Segment::Key(key);
            let Some(places) = self.places.below.get(&segment) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let mut walk = Walk { places, changes: false };
            map.next_value_seed(&mut walk)?;
            self.changes |= walk.changes || places.undefined;
            found.insert(segment);
        }
        self.all_found(found.len())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut found = 0;
        for index in 0.. {
            match self.places.below.get(&Segment::Index(index)) {
                Some(places) => {
                    let mut walk = Walk { places, changes: false };
                    if seq.next_element_seed(&mut walk)?.is_none() {
                        break;
                    }
                    self.changes |= walk.changes;
                    found += 1;
                }
                None => {
                    if seq.next_element::<IgnoredAny>()?.is_none() {
                        break;
                    }
                }
            }
        }
        self.all_found(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(json: &str, meta: &str) -> Result<Option<String>, String> {
        let json = RawValue::from_string(json.to_owned()).unwrap();
        let meta = RawValue::from_string(meta.to_owned()).unwrap();
        let changed = apply(Some(&json), &meta).map_err(|error| error.to_string())?;
        Ok(changed.map(|changed| match changed {
            Changed::Not => json.get().to_owned(),
            Changed::To(text) => text.get().to_owned(),
        }))
    }

    #[test]
    fn special_types_stay_the_plain_json_that_stands_there() {
        let json = r#"{"at":"2026-01-01T00:00:00.000Z","n":[null,{"big":"12"}],"set":[1],"lone":"\ud83d"}"#;
        let meta = r#"[[1,"at"],[2,"n",0],[3,"n",0],[0,"n",1,"big"],[6,"set"]]"#;
        assert_eq!(applied(json, meta), Ok(Some(json.to_owned())));
        assert_eq!(applied(json, "[]"), Ok(Some(json.to_owned())));
    }

    #[test]
    fn an_undefined_key_is_dropped_and_an_undefined_input_is_none() {
        assert_eq!(applied(r#"{"a":{"b":null,"c":1}}"#, r#"[[3,"a","b"]]"#), Ok(Some(r#"{"a":{"c":1}}"#.into())));
        assert_eq!(applied("null", "[[3]]"), Ok(None));
    }

    #[test]
    fn what_is_no_value_in_json_becomes_null() {
        let meta = r#"[[2,"n"],[3,"l",1]]"#;
        assert_eq!(applied(r#"{"n":5,"l":[1,2]}"#, meta), Ok(Some(r#"{"l":[1,null],"n":null}"#.into())));
        let plain = r#"{"n": null, "l": [1, null]}"#;
        assert_eq!(applied(plain, meta), Ok(Some(plain.to_owned())), "nothing to write anew");
    }

    #[test]
    fn an_endless_place_is_refused_before_it_is_looked_for() {
        let endless = format!("[[3{}]]", ",0".repeat(1_000_000));
        assert!(applied("[]", &endless).unwrap_err().contains("128 is the most"));
    }

    #[test]
    fn a_place_that_is_not_there_is_refused() {
        for (json, meta) in [
            (r#"{"a":1}"#, r#"[[3,"nope"]]"#),
            (r#"{"a":1}"#, r#"[[1,"a","b"]]"#),
            (r#"{"a":[1]}"#, r#"[[1,"a",1]]"#),
            (r#"{"a":[1]}"#, r#"[[1,"a","0"]]"#),
            (r#"{"a":1,"a":1}"#, r#"[[1,"a"],[1,"b"]]"#),
            ("\"text\"", r#"[[1,"a"]]"#),
            ("{}", r#"[[8]]"#),
            ("{}", r#"[["1"]]"#),
            ("{}", r#"[[]]"#),
            ("{}", r#"{}"#),
            ("{}", "null"),
        ] {
            assert!(applied(json, meta).is_err(), "{json} {meta}");
        }
    }
}
