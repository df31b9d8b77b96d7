//! The API over a socket: what only shows on a connection.

#![cfg(feature = "http")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use aiki_server::Server;
use aiki_server::http::RouterOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn serve(options: RouterOptions) -> (Server, TcpStream) {
    let server = Server::builder().start().await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = server.router_with(options);
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (server, TcpStream::connect(address).await.unwrap())
}

fn request(path: &str, length: usize, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

/// Reads up to the end of one answer with a content length.
async fn answer(stream: &mut TcpStream) -> (u16, String) {
    let mut text = String::new();
    loop {
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.to_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return (text[9..12].parse().unwrap(), text);
            }
        }
        let mut part = [0; 4096];
        let read = stream.read(&mut part).await.unwrap();
        assert!(read > 0, "the connection ended after: {text}");
        text.push_str(std::str::from_utf8(&part[..read]).unwrap());
    }
}

async fn is_over(stream: &mut TcpStream) -> bool {
    matches!(stream.read(&mut [0; 1]).await, Ok(0) | Err(_))
}

#[tokio::test]
async fn a_connection_serves_call_after_call_also_after_refusals() {
    let (_server, mut stream) = serve(RouterOptions::default()).await;
    for (path, body, status) in [
        ("/api/workflowRun/getStateV1", r#"{"json":{"id":"x"}}"#, 404),
        ("/api/workflowRun/getStateV1", "{bad", 400),
        ("/api/nope", "{}", 404),
        ("/health", "{}", 405),
        ("/api/workflowRun/claimRefreshV1", r#"{"json":{"id":"x"}}"#, 200),
    ] {
        stream.write_all(request(path, body.len(), body).as_bytes()).await.unwrap();
        let (found, text) = answer(&mut stream).await;
        assert_eq!(found, status, "{text}");
    }
}

#[tokio::test]
async fn a_body_that_never_comes_ends_the_connection() {
    let (_server, mut stream) = serve(RouterOptions::default().body_timeout(Duration::from_millis(50))).await;
    stream.write_all(request("/api/workflowRun/getStateV1", 1000, "{\"json\"").as_bytes()).await.unwrap();
    let (status, text) = answer(&mut stream).await;
    assert!(status == 408 && text.contains("\"TIMEOUT\""), "{text}");
    assert!(is_over(&mut stream).await);
}

#[tokio::test]
async fn a_body_that_is_announced_too_large_is_refused_before_it_comes() {
    let (_server, mut stream) = serve(RouterOptions::default()).await;
    stream.write_all(request("/api/workflowRun/getStateV1", 4_000_001, "{").as_bytes()).await.unwrap();
    let (status, text) = answer(&mut stream).await;
    assert!(status == 413 && text.contains("PAYLOAD_TOO_LARGE"), "{text}");
    assert!(is_over(&mut stream).await);
}

#[tokio::test]
async fn a_body_that_breaks_off_harms_nobody_else() {
    let (server, mut stream) = serve(RouterOptions::default()).await;
    stream.write_all(request("/api/workflowRun/getStateV1", 1000, "{\"json\"").as_bytes()).await.unwrap();
    let address = stream.peer_addr().unwrap();
    drop(stream);
    let mut other = TcpStream::connect(address).await.unwrap();
    let body = r#"{"json":{"id":"x"}}"#;
    other.write_all(request("/api/workflowRun/claimRefreshV1", body.len(), body).as_bytes()).await.unwrap();
    assert_eq!(answer(&mut other).await.0, 200);
    server.close().await;
}
