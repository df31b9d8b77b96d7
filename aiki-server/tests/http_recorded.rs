//! Exchanges that were recorded against another implementation of the contract, sent to ours: every wrong request,
//! every unknown id, every refused caller.

#![cfg(feature = "http")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod caller;

use aiki_server::Server;
use aiki_server::http::{Authorize, AuthorizeError, Caller, Role, RouterOptions};
use async_trait::async_trait;
use axum::http::HeaderMap;
use caller::{Answer, Exchange};
use serde_json::Value;

/// Compares status, content type, code and plain texts. Messages are everybody's own.
fn same(exchange: &Exchange, answer: &Answer) {
    let place = format!("{} {} {}: {}", exchange.seq, exchange.method, exchange.path, answer.text);
    assert_eq!(answer.status, exchange.status, "{place}");
    assert_eq!(answer.header("content-type"), exchange.response_headers["content-type"], "{place}");
    if let Some(text) = &exchange.response_text {
        assert_eq!(&answer.text, text, "{place}");
        return;
    }
    let recorded = exchange.response_body.as_ref().unwrap();
    match recorded["json"]["code"].as_str() {
        Some(code) => assert_eq!(answer.code(), code, "{place}"),
        None if exchange.path.contains("workflow/") => assert!(answer.json()["json"].is_object(), "{place}"),
        None => assert_eq!(&answer.json(), recorded, "{place}"),
    }
}

#[tokio::test]
async fn unknown_ids_are_told_as_they_were() {
    let server = Server::builder().start().await.unwrap();
    let router = server.router();
    let exchanges = Exchange::all(include_str!("exchanges/35-errors-unknown-ids.jsonl"));
    assert_eq!(exchanges.len(), 26);
    for exchange in &exchanges {
        same(exchange, &exchange.replay(&router).await);
    }
}

/// Where we differ on purpose, with the status that we answer: a fraction of a millisecond is rounded up and a sleep
/// of nothing is fine, so both fail for the unknown run; a cron expression or a zone that cannot be used is the
/// caller's fault.
const DIFFERENT: [(u32, u16); 4] = [(51, 404), (54, 404), (63, 400), (64, 400)];

#[tokio::test]
async fn wrong_requests_are_refused_as_they_were() {
    let server = Server::builder().start().await.unwrap();
    let router = server.router();
    let exchanges = Exchange::all(include_str!("exchanges/36-errors-invalid-requests.jsonl"));
    assert_eq!(exchanges.len(), 69);
    for exchange in &exchanges {
        let answer = exchange.replay(&router).await;
        match DIFFERENT.iter().find(|(seq, _)| *seq == exchange.seq) {
            Some((_, status)) => assert_eq!(answer.status, *status, "{}: {}", exchange.seq, answer.text),
            None => same(exchange, &answer),
        }
    }
}

#[tokio::test]
async fn health_and_capabilities_are_told_as_they_were() {
    let server = Server::builder().start().await.unwrap();
    let router = server.router();
    for exchange in Exchange::all(include_str!("exchanges/45-health-and-capabilities.jsonl")) {
        same(&exchange, &exchange.replay(&router).await);
    }
}

/// Knows one key.
struct OneKey;

#[async_trait]
impl Authorize for OneKey {
    async fn authorize(&self, headers: &HeaderMap) -> Result<Caller, AuthorizeError> {
        let header = headers.get("authorization").map_or("", |value| value.to_str().unwrap());
        match header.strip_prefix("Bearer ") {
            Some("aiki_00000000_REDACTED") => Ok(Caller { namespace: "tenant".into(), role: Role::Client }),
            Some("broken") => Err(AuthorizeError::Failed("no connection to 10.0.0.1".into())),
            Some(_) => Err(AuthorizeError::Refused("Invalid API key".into())),
            None => Err(AuthorizeError::Refused("Not authenticated".into())),
        }
    }
}

#[tokio::test]
async fn callers_are_refused_as_they_were() {
    let server = Server::builder().start().await.unwrap();
    let router = server.router_with(RouterOptions::default().authorize(OneKey));
    for mut exchange in Exchange::all(include_str!("exchanges/49-auth.jsonl")) {
        if exchange.path == "/capabilities" {
            // The recorded server had a dashboard to sign in to.
            exchange.response_body.as_mut().unwrap()["iam"]["dashboard"] = Value::Bool(false);
        }
        same(&exchange, &exchange.replay(&router).await);
    }
}

#[tokio::test]
async fn a_broken_authorizer_tells_nobody_why() {
    let server = Server::builder().start().await.unwrap();
    let router = server.router_with(RouterOptions::default().authorize(OneKey));
    let mut request = caller::request(axum::http::Method::POST, "/api/nope", "{bad");
    request.headers_mut().insert("authorization", "Bearer broken".parse().unwrap());
    let answer = caller::send(&router, request).await;
    assert_eq!((answer.status, answer.text.as_str()), (500, "Internal Server Error"));
    assert!(answer.header("content-type").starts_with("text/plain"));
}
