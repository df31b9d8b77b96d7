//! Answers on the wire.

use aiki_wire::envelope::Enveloped;
use axum::body::Body;
use axum::http::header::{CONNECTION, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;

use super::refusal::Refusal;

/// The content type decides whether clients of the contract parse the body.
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const JSON_UTF8: HeaderValue = HeaderValue::from_static("application/json;charset=utf-8");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain;charset=utf-8");

fn reply(status: StatusCode, content_type: HeaderValue, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// A success: the body is an envelope already.
pub(super) fn success(envelope: String) -> Response {
    reply(StatusCode::OK, JSON, envelope)
}

/// An error envelope.
pub(super) fn refused(refusal: &Refusal) -> Response {
    let status = StatusCode::from_u16(refusal.error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    // Texts and numbers can always be written.
    let body = serde_json::to_string(&Enveloped::new(&refusal.error)).unwrap_or_default();
    let mut response = reply(status, JSON, body);
    if refusal.close {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// JSON that is no envelope.
pub(super) fn plain_json(body: impl Into<Body>) -> Response {
    reply(StatusCode::OK, JSON_UTF8, body)
}

/// A text.
pub(super) fn text(status: StatusCode, body: impl Into<Body>) -> Response {
    reply(status, TEXT, body)
}

/// What is not there.
pub(super) fn not_found() -> Response {
    text(StatusCode::NOT_FOUND, "Not Found")
}
