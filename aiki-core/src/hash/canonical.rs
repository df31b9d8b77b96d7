//! Rewriting JSON text into its canonical form.

use std::cmp::Ordering;
use std::fmt::Write;

use super::{HashError, MAX_DEPTH};

/// The longest run of digits that an `f64` certainly holds exactly.
const EXACT_DIGITS: usize = 15;

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
pub(super) struct Rewriter<'a> {
    text: &'a str,
    at: usize,
    out: String,
    /// The members so far of every object that is still open, innermost last.
    members: Vec<Member>,
    scratch: String,
}

impl<'a> Rewriter<'a> {
    /// Rewrites `text` behind what `out` holds.
    pub(super) fn new(text: &'a str, out: String) -> Self {
        Self { text, at: 0, out, members: Vec::new(), scratch: String::new() }
    }

    /// The output, once the text was one JSON value and nothing else.
    pub(super) fn whole(mut self) -> Result<String, HashError> {
        self.value(0)?;
        self.skip_space();
        self.require(self.at == self.text.len(), "the end of the input")?;
        Ok(self.out)
    }

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
