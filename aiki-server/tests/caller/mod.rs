//! Calls a router as a client of the contract does.

#![allow(dead_code, reason = "not every suite calls everything")]

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tower::ServiceExt;

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The output of a success.
    pub(crate) fn output(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        self.json()["json"].clone()
    }

    /// The code of an error; the envelope must be exactly what clients of the contract know for an error.
    pub(crate) fn code(&self) -> String {
        assert_eq!(self.header("content-type"), "application/json", "{}", self.text);
        let body = self.json();
        let error = body["json"].as_object().unwrap_or_else(|| panic!("{}", self.text));
        let keys: Vec<_> = error.keys().map(String::as_str).collect();
        assert_eq!(keys, ["code", "defined", "message", "status"], "{}", self.text);
        assert_eq!((&error["defined"], &error["status"]), (&json!(false), &json!(self.status)));
        assert!(!error["message"].as_str().unwrap().is_empty());
        error["code"].as_str().unwrap().to_owned()
    }

    pub(crate) fn message(&self) -> String {
        self.json()["json"]["message"].as_str().unwrap_or_default().to_owned()
    }
}

pub(crate) async fn send(router: &Router, request: Request<Body>) -> Answer {
    let response = router.clone().oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.unwrap();
    Answer { status: head.status.as_u16(), headers: head.headers, text: String::from_utf8(bytes.to_vec()).unwrap() }
}

/// A request with JSON in it.
pub(crate) fn request(method: Method, path: &str, body: impl Into<Body>) -> Request<Body> {
    Request::builder().method(method).uri(path).header("content-type", "application/json").body(body.into()).unwrap()
}

/// POSTs a body to `/api/{procedure}`.
pub(crate) async fn post(router: &Router, procedure: &str, body: impl Into<Body>) -> Answer {
    send(router, request(Method::POST, &format!("/api/{procedure}"), body)).await
}

/// Calls a procedure.
pub(crate) async fn call(router: &Router, procedure: &str, input: Value) -> Answer {
    post(router, procedure, json!({ "json": input }).to_string()).await
}

/// Calls a procedure that must succeed.
pub(crate) async fn ok(router: &Router, procedure: &str, input: Value) -> Value {
    let answer = call(router, procedure, input).await;
    assert_eq!(answer.status, 200, "{procedure}: {}", answer.text);
    answer.output()
}

/// A recorded exchange.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Exchange {
    pub(crate) seq: u32,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) request_headers: std::collections::BTreeMap<String, String>,
    pub(crate) request_body: Option<Box<RawValue>>,
    pub(crate) request_text: Option<String>,
    pub(crate) status: u16,
    pub(crate) response_headers: std::collections::BTreeMap<String, String>,
    pub(crate) response_body: Option<Value>,
    pub(crate) response_text: Option<String>,
}

impl Exchange {
    pub(crate) fn all(text: &str) -> Vec<Self> {
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Sends the request as it was recorded.
    pub(crate) async fn replay(&self, router: &Router) -> Answer {
        let mut builder = Request::builder().method(self.method.as_str()).uri(&self.path);
        for (name, value) in &self.request_headers {
            builder = builder.header(name, value);
        }
        let body = self.request_body.as_ref().map(|body| body.get().to_owned());
        let body = body.or_else(|| self.request_text.clone()).unwrap_or_default();
        send(router, builder.body(Body::from(body)).unwrap()).await
    }
}
