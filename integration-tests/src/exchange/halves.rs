//! Halves of surrogate pairs, which JavaScript can put into a text and JSON can write (`"\ud83d"`), but which no
//! Rust text can hold. In the runner each has a character of a private plane; on the wire it is itself again.

use std::borrow::Cow;

/// Stands for U+D800; the others follow.
const FIRST: u32 = 0xF_0000;
const HIGH: std::ops::Range<u32> = 0xD800..0xDC00;
const LOW: std::ops::Range<u32> = 0xDC00..0xE000;

/// A JSON text in which every half of a pair has become a private character.
#[must_use]
pub fn hide(json: &str) -> Cow<'_, str> {
    if !json.contains("\\u") {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        out.push_str(before);
        let taken = match unit(escape) {
            Some(high)
                if HIGH.contains(&high) && escape.get(6..).and_then(unit).is_some_and(|low| LOW.contains(&low)) =>
            {
                out.push_str(&escape[..12]);
                12
            }
            Some(half) if HIGH.contains(&half) || LOW.contains(&half) => {
                out.extend(char::from_u32(FIRST + half - HIGH.start));
                6
            }
            // The character behind a backslash goes with it, so that `\\` begins nothing.
            _ => {
                let taken = 1 + escape[1..].chars().next().map_or(0, char::len_utf8);
                out.push_str(&escape[..taken]);
                taken
            }
        };
        rest = &escape[taken..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// Undoes [`hide`].
#[must_use]
pub fn show(json: &str) -> Cow<'_, str> {
    let half = |c: char| {
        let of = u32::from(c).checked_sub(FIRST)? + HIGH.start;
        (of < LOW.end).then_some(of)
    };
    if !json.chars().any(|c| half(c).is_some()) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match half(c) {
            Some(half) => out.push_str(&format!("\\u{half:04x}")),
            None => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// The code unit of an escape `\uXXXX` at the beginning of a text.
fn unit(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    u32::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_pair_is_read_and_sent_as_it_was_recorded() {
        for json in [r#"{"a":"x\ud83dy","\udc00":1}"#, r#"["\ud83d\ud83d"]"#, r#""\ud83d\\udc00""#] {
            let hidden = hide(json);
            let value: serde_json::Value = serde_json::from_str(&hidden).unwrap();
            assert_eq!(show(&value.to_string()), json);
        }
    }

    #[test]
    fn whole_pairs_and_other_escapes_stay() {
        for json in [r#""\ud83d\ude80""#, r#""\\ud83d \u0041 \n\"""#, r#""🚀 \u""#, "plain", "\"\\"] {
            assert_eq!(hide(json), json);
        }
    }
}
