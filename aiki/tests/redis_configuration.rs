//! From a configuration that names Redis Streams to a worker.
#![cfg(all(feature = "redis", feature = "embedded"))]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use aiki::prelude::*;
use aiki::{ClientConfig, SubscriberTypes};

/// What a program says about these two configurations.
async fn refusal(client: &str, subscriber: &str) -> String {
    let server = Server::in_memory().await.unwrap();
    let client: ClientConfig = serde_json::from_str(client).unwrap();
    let config = match WorkerConfig::from_json(&format!(r#"{{"subscriber":{subscriber}}}"#)) {
        Ok(config) => config,
        Err(error) => return error.to_string(),
    };
    let types = match SubscriberTypes::of_client(&client) {
        Ok(types) => types,
        Err(error) => return error.to_string(),
    };
    let built = types.worker(server.client(), config).and_then(|builder| builder.build());
    server.close().await;
    built.map(|_| "accepted".to_owned()).unwrap_or_else(|error| error.to_string())
}

const CLIENT: &str = r#"{"url":"localhost:9090","redis":{"host":"localhost","port":6379,"password":"hunter2","db":0}}"#;
const WITHOUT: &str = r#"{"url":"localhost:9090"}"#;

#[tokio::test]
async fn the_documented_configuration_makes_a_worker() {
    let documented = r#"{"type":"redis_streams","claimMinIdleTimeMs":60000,"blockTimeMs":1000}"#;
    assert_eq!(refusal(CLIENT, documented).await, "accepted");
    assert_eq!(refusal(CLIENT, r#"{"type":"redis_streams"}"#).await, "accepted");
    let url = r#"{"url":"localhost:9090","redis":"rediss://worker:hunter2@cache/1"}"#;
    assert_eq!(refusal(url, documented).await, "accepted");
}

#[tokio::test]
async fn redis_streams_without_a_redis_names_the_key_that_is_missing() {
    let text = refusal(WITHOUT, r#"{"type":"redis_streams"}"#).await;
    assert!(text.contains("`redis` is not configured") && text.contains("client's configuration"), "{text}");
}

#[tokio::test]
async fn options_out_of_bounds_or_unknown_are_refused_before_anything_starts() {
    let text = refusal(CLIENT, r#"{"type":"redis_streams","blockTimeMs":5}"#).await;
    assert!(text.contains("blockTimeMs is 5 ms"), "{text}");
    let text = refusal(CLIENT, r#"{"type":"redis_streams","blockTime":5}"#).await;
    assert!(text.contains("blockTime") && text.contains("blockTimeMs"), "{text}");
}

#[tokio::test]
async fn no_error_and_no_picture_shows_the_password() {
    let bad = r#"{"url":"localhost:9090","redis":"redis://u:hunter2@host:port"}"#;
    let text = refusal(bad, r#"{"type":"redis_streams"}"#).await;
    assert!(text.contains("port") && !text.contains("hunter2"), "{text}");
    let client: ClientConfig = serde_json::from_str(CLIENT).unwrap();
    let shown = format!("{client:?} {:?}", SubscriberTypes::of_client(&client).unwrap());
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[tokio::test]
async fn a_server_with_redis_offers_redis_and_not_its_memory() {
    let url = "redis://:hunter2@localhost:1".parse().unwrap();
    let server = Server::builder().redis(url).start().await.unwrap();
    let types = server.subscriber_types();
    let config = |kind: &str| WorkerConfig::from_json(&format!(r#"{{"subscriber":{{"type":"{kind}"}}}}"#)).unwrap();
    assert!(types.worker(server.client(), config("redis_streams")).is_ok());
    let text = types.worker(server.client(), config("memory")).unwrap_err().to_string();
    assert!(text.contains("http, redis_streams"), "{text}");
    assert!(!format!("{server:?} {:?}", server.subscriber()).contains("hunter2"));
    server.close().await;
}
