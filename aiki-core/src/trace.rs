//! The place in a distributed trace from which a run was started.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A text that is not a `traceparent` of W3C Trace Context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent: expected `00-<32 hex digits>-<16 hex digits>-<2 hex digits>`, lowercase and not all zeros")]
pub struct TraceParentError;

/// The header `traceparent` of W3C Trace Context: which trace a run belongs to, and which span started it. The
/// run keeps it over all of its attempts, and its children inherit it.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TraceParent(String);

/// Length of version 0: what later versions add behind it is not kept.
const LEN: usize = 55;

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_id(text: &str, digits: usize) -> bool {
    is_hex(text, digits) && text.bytes().any(|byte| byte != b'0')
}

impl TraceParent {
    /// The header's value.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The 32 hex digits of the trace.
    pub fn trace_id(&self) -> &str {
        &self.0[3..35]
    }

    /// The 16 hex digits of the span that started the run.
    pub fn parent_id(&self) -> &str {
        &self.0[36..52]
    }
}

impl FromStr for TraceParent {
    type Err = TraceParentError;

    fn from_str(text: &str) -> Result<Self, TraceParentError> {
        let mut parts = text.splitn(5, '-');
        let mut next = || parts.next().unwrap_or_default();
        let (version, trace, parent, flags) = (next(), next(), next(), next());
        let later = parts.next();
        let known = is_hex(version, 2) && version != "ff" && (later.is_none() || version != "00");
        if known && is_id(trace, 32) && is_id(parent, 16) && is_hex(flags, 2) {
            // As version 0 whatever it was: that is all that is understood of it.
            let text = format!("00-{trace}-{parent}-{flags}");
            debug_assert_eq!(text.len(), LEN, "the parts have their places");
            Ok(Self(text))
        } else {
            Err(TraceParentError)
        }
    }
}

impl TryFrom<String> for TraceParent {
    type Error = TraceParentError;

    fn try_from(text: String) -> Result<Self, TraceParentError> {
        text.parse()
    }
}

impl From<TraceParent> for String {
    fn from(trace: TraceParent) -> Self {
        trace.0
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceParent({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn the_parts_are_found() {
        let trace: TraceParent = GOOD.parse().unwrap();
        assert_eq!(trace.trace_id(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(trace.parent_id(), "b7ad6b7169203331");
        assert_eq!(trace.to_string(), GOOD);
        let json = serde_json::to_string(&trace).unwrap();
        assert_eq!(serde_json::from_str::<TraceParent>(&json).unwrap(), trace);
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        let later = format!("cc{}-what-the-future-holds", &GOOD[2..]);
        assert_eq!(later.parse::<TraceParent>().unwrap().as_str(), GOOD);
    }

    #[test]
    fn what_callers_make_up_is_refused() {
        let zeros = [
            "00-00000000000000000000000000000000-b7ad6b7169203331-01".to_owned(),
            GOOD.replace("b7ad6b7169203331", "0000000000000000"),
        ];
        let odd = ["", "00", "00-1-2-3"].map(str::to_owned);
        let wrong = [
            GOOD.to_uppercase(),
            GOOD.replace("00-0", "ff-0"),
            format!("{GOOD}-more"),
            format!("{GOOD} "),
            GOOD.replace("-01", "-é"),
        ];
        for text in zeros.into_iter().chain(odd).chain(wrong) {
            assert_eq!(text.parse::<TraceParent>(), Err(TraceParentError), "{text}");
        }
        assert!(serde_json::from_str::<TraceParent>("\"nonsense\"").is_err());
    }
}
