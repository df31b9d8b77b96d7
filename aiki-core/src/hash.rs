//! The input hash: the identity of a payload, computed over its JSON text.
//!
//! `hash(x)` is the lower-case hex SHA-256 of the canonical text of `{input: x}`. Canonical means: no white space,
//! keys in order of their UTF-16 code units, strings and numbers as ECMAScript's `JSON.stringify` writes them.
//! The text is rewritten without going through Rust strings, which cannot hold a lone surrogate.

use std::cmp::Ordering;
use std::fmt::{self, Write};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Arrays and objects may nest this deep.
pub const MAX_DEPTH: usize = 128;

/// The longest run of digits that an `f64` certainly holds exactly.
const EXACT_DIGITS: usize = 15;

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
    let mut rewriter = Rewriter { text, at: 0, out, members: Vec::new(), scratch: String::new() };
    rewriter.value(0)?;
    rewriter.skip_space();
    rewriter.require(rewriter.at == text.len(), "the end of the input")?;
    rewriter.out.push('}');
    Ok(rewriter.out)
}

/// Byte offsets into the output: a member is `start..end`, its key with quotes `start..key_end`.
struct Member {
    start: usize,
    key_end: usize,
    end: usize,
}

impl Member {
    fn key<'a>(&self, out: &'a str) -> &'a str {
        &out[self.start + 1..self.key_end - 1]
    }
}

/// Reads JSON once and writes canonical JSON. Only objects whose keys are out of order are written twice.
struct Rewriter<'a> {
    text: &'a str,
    at: usize,
    out: String,
    /// The members so far of every object that is still open, innermost last.
    members: Vec<Member>,
    scratch: String,
}

impl Rewriter<'_> {
    fn require(&self, met: bool, expected: &'static str) -> Result<(), HashError> {
        if met { Ok(()) } else { Err(HashError::NotJson { offset: self.at, expected }) }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn skip_while(&mut self, wanted: impl Fn(u8) -> bool) -> usize {
        let rest = &self.text.as_bytes()[self.at..];
        let count = rest.iter().position(|byte| !wanted(*byte)).unwrap_or(rest.len());
        self.at += count;
        count
    }

    fn skip_space(&mut self) {
        self.skip_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
    }

    fn value(&mut self, depth: usize) -> Result<(), HashError> {
        self.skip_space();
        match self.peek() {
            Some(b'"') => self.string(),
            Some(b'{' | b'[') if depth == MAX_DEPTH => Err(HashError::TooDeep { offset: self.at }),
            Some(b'{') => self.object(depth + 1),
            Some(b'[') => self.array(depth + 1),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => self.word(),
        }
    }

    fn word(&mut self) -> Result<(), HashError> {
        let rest = &self.text[self.at..];
        let word = ["null", "true", "false"].into_iter().find(|word| rest.starts_with(word)).unwrap_or_default();
        self.require(!word.is_empty(), "a JSON value")?;
        self.at += word.len();
        self.out.push_str(word);
        Ok(())
    }

    fn number(&mut self) -> Result<(), HashError> {
        let digit = |byte: u8| byte.is_ascii_digit();
        let start = self.at;
        self.eat(b'-');
        let zero = self.peek() == Some(b'0');
        let whole = self.skip_while(digit);
        self.require(whole == 1 || (whole > 1 && !zero), "a number without leading zeros")?;
        let mut exact = whole <= EXACT_DIGITS;
        if self.eat(b'.') {
            exact = false;
            let digits = self.skip_while(digit);
            self.require(digits > 0, "a digit after the decimal point")?;
        }
        if self.eat(b'e') || self.eat(b'E') {
            exact = false;
            let _sign = self.eat(b'+') || self.eat(b'-');
            let digits = self.skip_while(digit);
            self.require(digits > 0, "a digit in the exponent")?;
        }
        match &self.text[start..self.at] {
            text if exact && text != "-0" => self.out.push_str(text),
            text => match text.parse::<f64>() {
                Ok(number) if number.is_finite() => self.out.push_str(ryu_js::Buffer::new().format_finite(number)),
                _ => self.out.push_str("null"),
            },
        }
        Ok(())
    }

    fn string(&mut self) -> Result<(), HashError> {
        self.at += 1;
        self.out.push('"');
        loop {
            let start = self.at;
            self.skip_while(|byte| !matches!(byte, b'"' | b'\\' | 0..=0x1f));
            self.out.push_str(&self.text[start..self.at]);
            if self.peek() == Some(b'\\') {
                self.escape()?;
                continue;
            }
            let closed = self.eat(b'"');
            self.out.push('"');
            return self.require(closed, "a closing quote, or an escape in place of a control character");
        }
    }

    /// Rewrites one escape, or two that together are a surrogate pair.
    fn escape(&mut self) -> Result<(), HashError> {
        let short = match self.text.as_bytes().get(self.at + 1) {
            Some(byte @ (b'"' | b'\\' | b'/')) => Some(*byte),
            Some(b'b') => Some(0x08),
            Some(b't') => Some(0x09),
            Some(b'n') => Some(0x0a),
            Some(b'f') => Some(0x0c),
            Some(b'r') => Some(0x0d),
            _ => None,
        };
        let unit = short.map(u16::from).or_else(|| self.unicode_escape());
        self.require(unit.is_some(), "a valid escape")?;
        self.at += if short.is_some() { 2 } else { 6 };
        let high = unit.filter(|unit| (0xd800..0xdc00).contains(unit));
        let pair = high.and_then(|high| char::decode_utf16([high, self.unicode_escape()?]).next());
        if let Some(Ok(pair)) = pair {
            self.at += 6;
            self.out.push(pair);
        } else {
            unit.into_iter().for_each(|unit| self.push_unit(unit));
        }
        Ok(())
    }

    /// The code unit of the `\uXXXX` that stands here, if one does.
    fn unicode_escape(&self) -> Option<u16> {
        let hex = self.text[self.at..].strip_prefix("\\u")?.get(..4)?;
        // The check also keeps out the sign that `from_str_radix` would accept.
        hex.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u16::from_str_radix(hex, 16).ok())?
    }

    /// Writes a code unit as `JSON.stringify` does.
    fn push_unit(&mut self, unit: u16) {
        match (unit, char::from_u32(unit.into())) {
            (0x08, _) => self.out.push_str("\\b"),
            (0x09, _) => self.out.push_str("\\t"),
            (0x0a, _) => self.out.push_str("\\n"),
            (0x0c, _) => self.out.push_str("\\f"),
            (0x0d, _) => self.out.push_str("\\r"),
            (0x20.., Some(quoted @ ('"' | '\\'))) => self.out.extend(['\\', quoted]),
            (0x20.., Some(literal)) => self.out.push(literal),
            // Writing to a string cannot fail.
            _ => write!(self.out, "\\u{unit:04x}").unwrap_or(()),
        }
    }

    fn array(&mut self, depth: usize) -> Result<(), HashError> {
        self.at += 1;
        self.out.push('[');
        self.skip_space();
        let mut open = !self.eat(b']');
        while open {
            self.value(depth)?;
            open = self.more(b']', "a comma or a closing bracket")?;
        }
        self.out.push(']');
        Ok(())
    }

    fn object(&mut self, depth: usize) -> Result<(), HashError> {
        self.at += 1;
        self.out.push('{');
        let (body, base) = (self.out.len(), self.members.len());
        let mut in_order = true;
        self.skip_space();
        let mut open = !self.eat(b'}');
        while open {
            in_order &= self.member(depth, base)?;
            open = self.more(b'}', "a comma or a closing brace")?;
        }
        if !in_order {
            self.reorder(body, base);
        }
        self.members.truncate(base);
        self.out.push('}');
        Ok(())
    }

    /// Passes the comma or the closing bracket after an element; true when another element follows.
    fn more(&mut self, close: u8, expected: &'static str) -> Result<bool, HashError> {
        self.skip_space();
        if self.eat(close) {
            return Ok(false);
        }
        let comma = self.eat(b',');
        self.out.push(',');
        self.require(comma, expected).map(|()| true)
    }

    /// Rewrites one member of the object whose members start at `base`; false when its key is not past the last one.
    fn member(&mut self, depth: usize, base: usize) -> Result<bool, HashError> {
        self.skip_space();
        self.require(self.peek() == Some(b'"'), "a key in double quotes")?;
        let start = self.out.len();
        self.string()?;
        let key_end = self.out.len();
        self.skip_space();
        let colon = self.eat(b':');
        self.require(colon, "a colon")?;
        self.out.push(':');
        self.value(depth)?;
        let member = Member { start, key_end, end: self.out.len() };
        let previous = self.members[base..].last();
        let in_order = previous.is_none_or(|previous| by_key(&self.out)(previous, &member) == Ordering::Less);
        self.members.push(member);
        Ok(in_order)
    }

    /// Writes the members from `base` on again, from `body` on, in order and without the overridden ones.
    fn reorder(&mut self, body: usize, base: usize) {
        let members = &mut self.members[base..];
        // The sort is stable: of equal keys the last one stays last.
        members.sort_by(by_key(&self.out));
        self.scratch.clear();
        for (index, member) in members.iter().enumerate() {
            let key = member.key(&self.out);
            if members.get(index + 1).is_some_and(|next| next.key(&self.out) == key) {
                continue;
            }
            if !self.scratch.is_empty() {
                self.scratch.push(',');
            }
            self.scratch.push_str(&self.out[member.start..member.end]);
        }
        self.out.truncate(body);
        self.out.push_str(&self.scratch);
    }
}

/// Compares members by the UTF-16 code units of their keys.
fn by_key(out: &str) -> impl Fn(&Member, &Member) -> Ordering {
    let plain = |key: &str| key.is_ascii() && !key.contains('\\');
    move |a, b| match (a.key(out), b.key(out)) {
        (a, b) if plain(a) && plain(b) => a.cmp(b),
        (a, b) => units(a).cmp(units(b)),
    }
}

/// The UTF-16 code units that a canonical string stands for.
fn units(canonical: &str) -> impl Iterator<Item = u16> {
    let mut units = canonical.encode_utf16();
    std::iter::from_fn(move || {
        let unit = units.next()?;
        if unit != u16::from(b'\\') {
            return Some(unit);
        }
        let escaped = units.next()?;
        match u8::try_from(escaped) {
            Ok(b'b') => Some(0x08),
            Ok(b't') => Some(0x09),
            Ok(b'n') => Some(0x0a),
            Ok(b'f') => Some(0x0c),
            Ok(b'r') => Some(0x0d),
            Ok(b'u') => (0..4).try_fold(0, |value, _| {
                let digit = char::from_u32(units.next()?.into())?.to_digit(16)?;
                Some(value << 4 | u16::try_from(digit).ok()?)
            }),
            _ => Some(escaped),
        }
    })
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
