//! JSON over HTTP and nothing else: the limit beside which the rest is put.

use std::time::Instant;

use axum::routing::post;
use axum::{Json, Router};
use futures::StreamExt;
use serde_json::{Value, json};

/// Requests a second with so many in flight. Server and client share this process.
pub(crate) async fn rate(requests: usize, in_flight: usize) -> f64 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("its address"));
    let router = Router::new().route("/", post(async |Json(body): Json<Value>| Json(body)));
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let client = reqwest::Client::new();
    let body = json!({ "json": { "text": "x".repeat(256) } });
    let begin = Instant::now();
    let ask = async |_| {
        let answer = client.post(&url).json(&body).send().await.expect("an answer");
        drop(answer.json::<Value>().await.expect("JSON"));
    };
    futures::stream::iter(0..requests).map(ask).buffer_unordered(in_flight).collect::<Vec<()>>().await;
    let rate = requests as f64 / begin.elapsed().as_secs_f64();
    server.abort();
    rate
}
