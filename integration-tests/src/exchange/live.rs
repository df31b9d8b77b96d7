//! The server that is being tried.

use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use reqwest::{Client, Method};
use serde_json::{Value, json};

use super::halves;

/// An answer that takes longer than this is a failure.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Goes with what was not recorded, so that the server's log tells it from the replay.
const TRACE: &str = "x-trace-id";

/// One live server.
#[derive(Debug, Clone)]
pub struct Live {
    client: Client,
    base: String,
    key: Option<String>,
}

/// A request, ready to be sent.
#[derive(Debug, Clone)]
pub struct Call {
    /// The HTTP method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The body's declared type.
    pub content_type: Option<String>,
    /// The `Authorization` header.
    pub credentials: Option<String>,
    /// The body.
    pub body: Option<String>,
    /// Whether the runner itself wants to know.
    pub own: bool,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The type without its parameters.
    pub content_type: String,
    /// The body as text.
    pub text: String,
    /// The body, when it is JSON.
    pub body: Option<Value>,
    /// When it came, ms since the epoch.
    pub at: f64,
}

impl Live {
    /// `url` without a path; `key` is sent by [`ask`](Self::ask).
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(url: &str, key: Option<String>) -> Result<Self, String> {
        let client = Client::builder().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none()).no_proxy().build();
        let client = client.map_err(|error| format!("no HTTP client: {error}"))?;
        Ok(Self { client, base: url.trim_end_matches('/').to_owned(), key })
    }

    /// The API key, when there is one.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// Sends one request.
    ///
    /// # Errors
    /// When no answer came.
    pub async fn send(&self, call: &Call) -> Result<Answer, String> {
        let method = Method::from_bytes(call.method.as_bytes()).map_err(|error| error.to_string())?;
        let mut request = self.client.request(method, format!("{}{}", self.base, call.path)).header(ACCEPT, "*/*");
        if let Some(content_type) = &call.content_type {
            request = request.header(CONTENT_TYPE, content_type);
        }
        if let Some(credentials) = &call.credentials {
            request = request.header(AUTHORIZATION, credentials);
        }
        if call.own {
            request = request.header(TRACE, "replay-exchanges");
        }
        if let Some(body) = &call.body {
            request = request.body(halves::show(body).into_owned());
        }
        let unreachable = |error: reqwest::Error| format!("{} {}: {error}", call.method, call.path);
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status().as_u16();
        let content_type =
            response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let content_type = essence(content_type).to_owned();
        let text = response.text().await.map_err(unreachable)?;
        let body = serde_json::from_str(&halves::hide(&text)).ok();
        Ok(Answer { status, content_type, text, body, at: now() })
    }

    /// Asks something that was not recorded, to know how far the server is. Nothing when it does
    /// not answer with success.
    pub async fn ask(&self, procedure: &str, input: Value) -> Option<Value> {
        let call = Call {
            method: "POST".to_owned(),
            path: format!("/api/{procedure}"),
            content_type: Some("application/json".to_owned()),
            credentials: self.key.as_ref().map(|key| format!("Bearer {key}")),
            body: Some(json!({"json": input}).to_string()),
            own: true,
        };
        let answer = self.send(&call).await.ok().filter(|answer| answer.status == 200)?;
        answer.body?.get_mut("json").map(Value::take)
    }

    /// The record of a run.
    pub async fn run(&self, id: &str) -> Option<Value> {
        self.ask("workflowRun/getByIdV1", json!({"id": id})).await?.get_mut("run").map(Value::take)
    }
}

/// A content type without its parameters.
#[must_use]
pub fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// ms since the epoch.
#[must_use]
pub fn now() -> f64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    since.as_secs_f64() * 1_000.0
}
