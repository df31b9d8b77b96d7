//! What is in a stream's entry: two fields, `v` and `run`. Never the payload.

use aiki_core::RunId;
use fred::types::Value;

/// The version of the fields.
pub(crate) const VERSION: &str = "1";
/// An entry's fields and values, together, in bytes.
const MAX_BYTES: usize = 4 * 1024;

/// An entry as Redis answers it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) id: String,
    /// `None`: the entry is pending, but its body is gone.
    pub(crate) fields: Option<Vec<(Vec<u8>, Vec<u8>)>>,
}

impl Entry {
    /// Reads `[id, [field, value, ...]]` or `[id, nil]`. `None` for anything else.
    pub(crate) fn parse(value: Value) -> Option<Self> {
        let Value::Array(parts) = value else { return None };
        let mut parts = parts.into_iter();
        let id = parts.next()?.into_string()?;
        let fields = match parts.next() {
            None | Some(Value::Null) => None,
            Some(Value::Array(fields)) => {
                let mut fields = fields.into_iter().map(|field| field.into_owned_bytes().unwrap_or_default());
                let mut pairs = Vec::new();
                while let Some(field) = fields.next() {
                    pairs.push((field, fields.next().unwrap_or_default()));
                }
                Some(pairs)
            }
            Some(_) => return None,
        };
        Some(Self { id, fields })
    }

    /// The run that the entry announces, or what is wrong with it.
    pub(crate) fn run(&self) -> Result<RunId, &'static str> {
        let fields = self.fields.as_deref().unwrap_or_default();
        if fields.iter().map(|(field, value)| field.len() + value.len()).sum::<usize>() > MAX_BYTES {
            return Err("larger than 4 KB");
        }
        let value = |name: &str| fields.iter().find(|(field, _)| field == name.as_bytes()).map(|(_, value)| &value[..]);
        match value("v") {
            None => return Err("no field v"),
            Some(version) if version != VERSION.as_bytes() => return Err("unknown version"),
            Some(_) => {}
        }
        let run = value("run").ok_or("no field run")?;
        std::str::from_utf8(run).ok().and_then(|run| run.parse().ok()).ok_or("the run is not an id")
    }
}

/// Reads an entry with these parts behind its id, as Redis answers it; `None` is nil. For whoever feeds it
/// nonsense.
#[doc(hidden)]
pub fn read_entry(id: &[u8], parts: Option<Vec<Option<Vec<u8>>>>) -> Option<Result<RunId, &'static str>> {
    let bytes = |bytes: Vec<u8>| Value::Bytes(bytes.into());
    let parts = parts.map_or(Value::Null, |parts| {
        Value::Array(parts.into_iter().map(|part| part.map_or(Value::Null, bytes)).collect())
    });
    Entry::parse(Value::Array(vec![bytes(id.to_vec()), parts])).map(|entry| entry.run())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(fields: &[(&str, &str)]) -> Entry {
        let fields = fields.iter().map(|(field, value)| (field.as_bytes().to_vec(), value.as_bytes().to_vec()));
        Entry { id: "1-0".into(), fields: Some(fields.collect()) }
    }

    #[test]
    fn unknown_fields_are_ignored_and_faults_have_reasons() {
        let run = RunId::from_bits(7 << 24);
        let text = run.to_string();
        assert_eq!(entry(&[("hint", "x"), ("run", &text), ("v", "1")]).run(), Ok(run));
        assert_eq!(entry(&[]).run(), Err("no field v"));
        assert_eq!(entry(&[("v", "1")]).run(), Err("no field run"));
        assert_eq!(entry(&[("v", "2"), ("run", &text)]).run(), Err("unknown version"));
        assert_eq!(entry(&[("v", "1"), ("run", "x")]).run(), Err("the run is not an id"));
        assert_eq!(entry(&[("v", "1"), ("run", &text), ("x", &"y".repeat(5000))]).run(), Err("larger than 4 KB"));
    }

    #[test]
    fn a_body_that_is_gone_is_not_an_error() {
        let gone = Value::Array(vec![Value::from("1-0"), Value::Null]);
        assert_eq!(Entry::parse(gone), Some(Entry { id: "1-0".into(), fields: None }));
        assert_eq!(Entry::parse(Value::Null), None);
        assert_eq!(Entry::parse(Value::Array(vec![])), None);
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::Integer),
            any::<bool>().prop_map(Value::Boolean),
            ".{0,30}".prop_map(|text| Value::String(text.into())),
            prop::collection::vec(any::<u8>(), 0..30).prop_map(|bytes| Value::Bytes(bytes.into())),
            "(v|run|1|[0-7][0-9A-HJKMNP-TV-Z]{25})".prop_map(|text| Value::String(text.into())),
        ];
        leaf.prop_recursive(3, 24, 6, |inner| prop::collection::vec(inner, 0..6).prop_map(Value::Array))
    }

    proptest! {
        #[test]
        fn no_answer_makes_the_parser_panic(value in any_value()) {
            if let Some(entry) = Entry::parse(value) {
                let _ = entry.run();
            }
        }
    }
}
