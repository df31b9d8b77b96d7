//! Recorded ids and the live ones that stand for them.

use std::collections::HashMap;

use serde_json::{Map, Value};

/// Characters of a ULID.
const ULID: usize = 26;
/// Characters of a SHA-256 in hex.
const HASH: usize = 64;
const ALPHABET: &str = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// What a text consists of, for the replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A ULID.
    Id(&'a str),
    /// 64 digits of lower-case hex.
    Hash(&'a str),
    /// Anything else.
    Text(&'a str),
}

/// Whether the text has the form of an id.
#[must_use]
pub fn is_id(text: &str) -> bool {
    text.len() == ULID
        && text.starts_with(['0', '1', '2', '3', '4', '5', '6', '7'])
        && text.chars().all(|c| ALPHABET.contains(c))
}

/// The time inside an id, ms since the epoch.
#[must_use]
pub fn time_of(id: &str) -> u64 {
    let digit = |c| ALPHABET.find(c).and_then(|at| u64::try_from(at).ok()).unwrap_or_default();
    id.chars().take(10).fold(0, |sum, c| sum * 32 + digit(c))
}

/// Takes a text apart at its ids and hashes.
#[must_use]
pub fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut out = Vec::new();
    let mut start = 0;
    let mut word = 0;
    for (at, c) in text.char_indices().chain([(text.len(), ' ')]) {
        if c.is_ascii_alphanumeric() {
            continue;
        }
        let found = &text[word..at];
        let piece = match found.len() {
            ULID if is_id(found) => Some(Piece::Id(found)),
            HASH if found.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f')) => Some(Piece::Hash(found)),
            _ => None,
        };
        if let Some(piece) = piece {
            if start < word {
                out.push(Piece::Text(&text[start..word]));
            }
            out.push(piece);
            start = at;
        }
        word = at + c.len_utf8();
    }
    if start < text.len() {
        out.push(Piece::Text(&text[start..]));
    }
    out
}

/// Every id inside a value, keys included, in the order of the walk.
pub fn each_id<'v>(value: &'v Value, see: &mut impl FnMut(&'v str)) {
    let text = |text: &'v str, see: &mut dyn FnMut(&'v str)| {
        for piece in pieces(text) {
            if let Piece::Id(id) = piece {
                see(id);
            }
        }
    };
    match value {
        Value::String(value) => text(value, see),
        Value::Array(values) => values.iter().for_each(|value| each_id(value, see)),
        Value::Object(fields) => {
            for (key, value) in fields {
                text(key, see);
                each_id(value, see);
            }
        }
        _ => {}
    }
}

/// What an id is of. The contract keeps ids apart only within a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A run, task or schedule.
    Thing,
    /// A transition of a run or task.
    Transition,
}

/// Which live id stands for which recorded one.
#[derive(Debug, Clone, Default)]
pub struct Ids {
    live: HashMap<String, String>,
    recorded: HashMap<(Kind, String), String>,
    loose: HashMap<String, String>,
    hashes: HashMap<String, String>,
    references: HashMap<String, String>,
}

impl Ids {
    /// Says that `live` stands for `recorded` from now on.
    ///
    /// # Errors
    /// What was expected instead, when one of them already stands for another of its kind.
    pub fn bind(&mut self, kind: Kind, recorded: &str, live: &str) -> Result<(), String> {
        if let Some(known) = self.live.get(recorded) {
            return if known == live { Ok(()) } else { Err(known.clone()) };
        }
        if !is_id(live) {
            return Err("an id of 26 characters".to_owned());
        }
        if let Some(other) = self.recorded.get(&(kind, live.to_owned())) {
            return Err(format!("an id that is not yet in use (this one stands for {other})"));
        }
        self.live.insert(recorded.to_owned(), live.to_owned());
        self.recorded.insert((kind, live.to_owned()), recorded.to_owned());
        Ok(())
    }

    /// Says that `live` may be sent where `recorded` was, until a better one is bound: a poll saw
    /// the one transition where another saw the next.
    pub fn lend(&mut self, recorded: &str, live: &str) {
        self.loose.insert(recorded.to_owned(), live.to_owned());
    }

    /// Says which reference id the live server gave to the run of a schedule: it holds the time at which the run was
    /// due.
    pub fn refer(&mut self, recorded: &str, live: &str) {
        self.references.entry(recorded.to_owned()).or_insert_with(|| live.to_owned());
    }

    /// The live id that stands for a recorded one.
    #[must_use]
    pub fn live(&self, recorded: &str) -> Option<&str> {
        self.live.get(recorded).or_else(|| self.loose.get(recorded)).map(String::as_str)
    }

    /// The bound live id, never a lent one.
    #[must_use]
    pub fn bound(&self, recorded: &str) -> Option<&str> {
        self.live.get(recorded).map(String::as_str)
    }

    /// The recorded id of the run, task or schedule for which a live one stands.
    #[must_use]
    pub fn recorded(&self, live: &str) -> Option<&str> {
        self.recorded.get(&(Kind::Thing, live.to_owned())).map(String::as_str)
    }

    /// The live hash for a recorded one, when it differs.
    #[must_use]
    pub fn hash<'a>(&'a self, recorded: &'a str) -> &'a str {
        self.hashes.get(recorded).map_or(recorded, String::as_str)
    }

    /// A recorded text with every known id and hash replaced.
    #[must_use]
    pub fn text(&self, recorded: &str) -> String {
        let live = |piece| match piece {
            Piece::Id(id) => self.live(id).unwrap_or(id),
            Piece::Hash(hash) => self.hashes.get(hash).map_or(hash, String::as_str),
            Piece::Text(text) => text,
        };
        match self.references.get(recorded) {
            Some(live) => live.clone(),
            None => pieces(recorded).into_iter().map(live).collect(),
        }
    }

    /// A recorded value with every known id and hash replaced, keys included. A hash that stands
    /// beside the input that it belongs to follows that input.
    #[must_use]
    pub fn value(&self, recorded: &Value) -> Value {
        match recorded {
            Value::String(text) => Value::String(self.text(text)),
            Value::Array(values) => values.iter().map(|value| self.value(value)).collect(),
            Value::Object(fields) => fields.iter().map(|(key, value)| (self.text(key), self.value(value))).collect(),
            other => other.clone(),
        }
    }

    /// Learns the live hashes of inputs that hold ids: whoever sends or makes such an input also
    /// hashes it.
    pub fn learn_hashes(&mut self, recorded: &Value) {
        match recorded {
            Value::Array(values) => values.iter().for_each(|value| self.learn_hashes(value)),
            Value::Object(fields) => {
                self.learn_hash(fields);
                fields.values().for_each(|value| self.learn_hashes(value));
            }
            _ => {}
        }
    }

    /// As [`learn_hashes`](Self::learn_hashes), for one object alone.
    pub fn learn_hash(&mut self, fields: &Map<String, Value>) {
        let (Some(input), Some(hash)) = (fields.get("input"), fields.get("inputHash")) else { return };
        let hash = hash.get("value").unwrap_or(hash).as_str().unwrap_or_default();
        let live = self.value(input);
        if live == *input || hash_of(input).is_none_or(|own| own != hash) {
            return;
        }
        if let Some(live) = hash_of(&live) {
            self.hashes.insert(hash.to_owned(), live);
        }
    }
}

fn hash_of(input: &Value) -> Option<String> {
    let text = serde_json::to_string(input).ok()?;
    aiki_core::hash::input_hash(Some(&text)).ok().map(|hash| hash.as_str().to_owned())
}
