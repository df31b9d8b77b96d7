//! Every answer carries the id of its request.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};

use aiki_core::TraceParent;
use aiki_runtime::{Entropy, SystemEntropy};
use axum::http::{HeaderMap, HeaderName, HeaderValue};

/// The header of the id: taken from the request, else made.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// W3C Trace Context: kept with runs that are created, and for the log.
pub(super) const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
/// Only for the log.
const TRACE_ID: HeaderName = HeaderName::from_static("x-trace-id");
/// A longer id is not the caller's to choose.
const MAX_LEN: usize = 128;

/// Makes ids: the same beginning for as long as the process lives, and a count.
pub(super) struct RequestIds {
    process: u64,
    count: AtomicU64,
}

impl RequestIds {
    pub(super) fn new() -> Self {
        Self { process: SystemEntropy.next_u64(), count: AtomicU64::new(0) }
    }

    /// The caller's own id where it is 1 to 128 visible characters of ASCII, else a new one.
    pub(super) fn of(&self, headers: &HeaderMap) -> HeaderValue {
        if let Some(own) = visible(headers.get(&REQUEST_ID)) {
            return own.clone();
        }
        let id = format!("{:016x}-{:x}", self.process, self.count.fetch_add(1, Ordering::Relaxed));
        HeaderValue::try_from(id).unwrap_or(HeaderValue::from_static("none"))
    }
}

/// The caller's trace id: that of the trace context, else what it calls so itself.
pub(super) fn trace_id(headers: &HeaderMap) -> Cow<'_, str> {
    let parent = headers.get(&TRACE_PARENT).and_then(|value| value.to_str().ok()?.parse::<TraceParent>().ok());
    match parent {
        Some(parent) => parent.trace_id().to_owned().into(),
        None => visible(headers.get(&TRACE_ID)).and_then(|id| id.to_str().ok()).unwrap_or_default().into(),
    }
}

fn visible(id: Option<&HeaderValue>) -> Option<&HeaderValue> {
    id.filter(|id| (1..=MAX_LEN).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic))
}
