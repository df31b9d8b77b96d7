//! Calls from browsers.

use axum::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderValue};

/// Writes what browsers have to know, as the deployable server of the contract does: an origin that is not
/// listed gets an empty one.
pub(super) fn allow(origins: &[String], request: &HeaderMap, answer: &mut HeaderMap) {
    let known = |origin: &&HeaderValue| origins.iter().any(|listed| listed.as_bytes() == origin.as_bytes());
    let origin = request.get(ORIGIN).filter(known).cloned().unwrap_or(HeaderValue::from_static(""));
    answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    answer.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, PUT, DELETE, OPTIONS"));
    let headers = HeaderValue::from_static("Content-Type, Authorization, x-trace-id, Accept");
    answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, headers);
    answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    answer.append(VARY, HeaderValue::from_static("Origin"));
}
