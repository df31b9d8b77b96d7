//! Showing how two values differ.

use std::fmt::Write;

use aiki_core::Payload;
use similar::{ChangeTag, TextDiff};

/// At most so many lines are shown.
const LINES: usize = 60;

/// What the JSON says, laid out; `nothing` where there is none.
pub(crate) fn pretty(payload: Option<&Payload>) -> String {
    let Some(payload) = payload else { return "nothing".to_owned() };
    match serde_json::from_str::<serde_json::Value>(payload.as_str()) {
        Ok(value) => format!("{value:#}"),
        Err(_) => payload.as_str().to_owned(),
    }
}

/// Whether both are the same JSON, however it is written.
pub(crate) fn same(one: Option<&Payload>, other: Option<&Payload>) -> bool {
    pretty(one) == pretty(other)
}

/// Line by line: `-` was expected, `+` was found.
pub(crate) fn diff(expected: &str, found: &str) -> String {
    let diff = TextDiff::from_lines(expected, found);
    let mut text = String::new();
    let mut changes = diff.iter_all_changes();
    for change in changes.by_ref().take(LINES) {
        let sign = match change.tag() {
            ChangeTag::Delete => '-',
            ChangeTag::Insert => '+',
            ChangeTag::Equal => ' ',
        };
        let _ = writeln!(text, "  {sign} {}", change.value().trim_end_matches('\n'));
    }
    let left = changes.count();
    if left > 0 {
        let _ = writeln!(text, "    and {left} more lines");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_differs_stands_out() {
        let payload = |cents: u64| Payload::of(&serde_json::json!({"cents": cents, "id": "a"})).unwrap();
        let text = diff(&pretty(Some(&payload(1))), &pretty(Some(&payload(2))));
        assert_eq!(text, "    {\n  -   \"cents\": 1,\n  +   \"cents\": 2,\n      \"id\": \"a\"\n    }\n");
    }

    #[test]
    fn a_long_difference_is_cut() {
        let long: String = (0..200).map(|n| format!("{n}\n")).collect();
        assert!(diff(&long, &long).ends_with("and 140 more lines\n"));
    }
}
