//! How deep a JSON text is nested.

/// Objects and arrays may be nested this deep unless configured otherwise, envelope included.
pub const DEFAULT_DEPTH_LIMIT: usize = 100;

/// Whether objects and arrays are nested deeper than `limit`. Looks at each byte once, without recursion; the
/// text need not be valid.
pub fn is_deeper_than(limit: usize, text: &[u8]) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => {
                depth += 1;
                if depth > limit {
                    return true;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_brackets_outside_of_texts_count() {
        assert!(!is_deeper_than(1, br#"{"a":"[[[{{{\"[[["}"#));
        assert!(!is_deeper_than(2, b"[[],[],{}]"));
        assert!(is_deeper_than(2, b"[[[]]]"));
        assert!(!is_deeper_than(3, b"[[[]]]"));
        assert!(is_deeper_than(100, "[".repeat(1_000_000).as_bytes()));
        assert!(!is_deeper_than(1, b"]]]["));
    }
}
