//! What cannot be done, and what is said then.
#![allow(clippy::unwrap_used, reason = "for tests")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aiki_client::{ClientConfig, ConfigError, HttpClient, Secret};
use aiki_conformance::server::{create_as, request};
use aiki_core::hash::input_hash;
use aiki_core::run::plan::CreateRun;
use aiki_core::{Client, Name, Payload, ServerClient, ServerError};
use aiki_server::Server;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode, Uri};
use tokio::net::TcpListener;

use crate::support::{Served, config};

async fn served() -> (Server, Served) {
    let server = Server::builder().start().await.unwrap();
    let served = Served::on_any(&server).await;
    (server, served)
}

#[tokio::test]
async fn a_wrong_key_is_refused_at_once_and_the_text_says_what_to_do() {
    let (_server, served) = served().await;
    for key in [None, Some(Secret::new("wrong"))] {
        let mut wrong = config(served.address);
        wrong.api_key = key;
        let http = HttpClient::connect(wrong).unwrap();
        let refused = http.create_run(request("1")).await;
        assert!(matches!(&refused, Err(ServerError::Unauthorized(text)) if text.contains("apiKey")), "{refused:?}");
        assert_eq!(http.requests(), 1, "it was not tried again");
    }
}

#[tokio::test]
async fn a_key_of_another_namespace_is_refused_by_both_names() {
    let (_server, served) = served().await;
    let mut wrong = config(served.address);
    wrong.namespace = Some(Name::new("mine"));
    let refused = HttpClient::connect(wrong).unwrap().check().await;
    let named = |text: &str| text.contains("`default`") && text.contains("`mine`");
    assert!(matches!(&refused, Err(ServerError::Invalid(text)) if named(text)), "{refused:?}");
    let mut learned = config(served.address);
    (learned.namespace, learned.api_key) = (None, Some(Secret::new("key-theirs")));
    let http = HttpClient::connect(learned).unwrap();
    http.check().await.unwrap();
    assert_eq!(http.namespace(), &Name::new("theirs"));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_by_its_address() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut nobody = config(free);
    nobody.retry_for = Duration::from_millis(100);
    let http = HttpClient::connect(nobody).unwrap();
    let refused = http.list_workers().await;
    let named = |text: &str| text.matches(&free.to_string()).count() == 1 && text.contains("is the server up?");
    assert!(matches!(&refused, Err(ServerError::Unavailable(text)) if named(text)), "{refused:?}");
    assert!(http.requests() > 1, "it was tried again for a while");
}

#[test]
fn a_configuration_that_cannot_be_used_is_refused_before_anything_is_sent() {
    let refusal = |config: ClientConfig| HttpClient::connect(config).unwrap_err();
    let url = |url: &str| refusal(ClientConfig::new(url));
    assert!(matches!(url("local host:1"), ConfigError::Url { .. }));
    assert!(matches!(url("http://"), ConfigError::Url { .. }));
    assert!(matches!(url("localhost:9090?x=1"), ConfigError::Url { .. }));
    assert_eq!(url("http://me:secret@localhost"), ConfigError::Credentials);
    assert_eq!(url(""), ConfigError::EmptyUrl);
    let key = ClientConfig { api_key: Some(Secret::new("a\nb")), ..ClientConfig::new("localhost") };
    assert_eq!(refusal(key), ConfigError::ApiKey);
    let plain = ClientConfig { ca_file: Some("ca.pem".into()), ..ClientConfig::new("localhost") };
    assert!(refusal(plain).to_string().contains("not https"));
    let absent = ClientConfig { ca_file: Some("/absent/ca.pem".into()), ..ClientConfig::new("https://localhost") };
    assert!(refusal(absent).to_string().contains("/absent/ca.pem"));
}

#[tokio::test]
async fn an_answer_over_the_limit_is_refused_by_the_name_of_the_limit() {
    let (server, served) = served().await;
    let run = create_as(&server.client(), request(&format!("\"{}\"", "x".repeat(10_000)))).await;
    let mut small = config(served.address);
    small.answer_limit = 5_000;
    let http = HttpClient::connect(small).unwrap();
    let refused = http.get_run(run).await;
    assert!(matches!(&refused, Err(ServerError::Invalid(text)) if text.contains("answerLimit")), "{refused:?}");
}

#[tokio::test]
async fn an_input_that_cannot_be_sent_spoils_no_other_start_of_its_batch() {
    let (_server, served) = served().await;
    let http = HttpClient::connect(config(served.address)).unwrap();
    http.check().await.unwrap();
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let mut starts = Vec::new();
    for at in 0..40 {
        let input = if at % 4 == 0 { deep.clone() } else { at.to_string() };
        let key = aiki_core::WorkflowKey::user("orders", "1.0.0");
        let start = CreateRun::new(key, Payload::from_json(input).ok(), input_hash(Some("1")).unwrap());
        let http = http.clone();
        starts.push(tokio::spawn(async move { http.create_run(start).await }));
    }
    for (at, start) in starts.into_iter().enumerate() {
        let created = start.await.unwrap();
        assert_eq!(created.is_ok(), at % 4 != 0, "{at}: {created:?}");
    }
}

#[tokio::test]
async fn starts_at_the_same_time_travel_together() {
    let (_server, served) = served().await;
    let http = HttpClient::connect(config(served.address)).unwrap();
    http.check().await.unwrap();
    let starts: Vec<_> = (0..64)
        .map(|at| {
            let http = http.clone();
            tokio::spawn(async move { http.create_run(request(&at.to_string())).await.unwrap().id })
        })
        .collect();
    let mut runs = Vec::new();
    for start in starts {
        runs.push(start.await.unwrap());
    }
    runs.sort_unstable();
    runs.dedup();
    assert_eq!(runs.len(), 64);
    assert!(http.requests() <= 33, "{} requests", http.requests());
}

#[tokio::test]
async fn a_closed_client_says_so() {
    let (_server, served) = served().await;
    let http = HttpClient::connect(config(served.address)).unwrap();
    let run = create_as(&Client::new(http.clone()), request("1")).await;
    let waiting = {
        let http = http.clone();
        tokio::spawn(async move { http.await_run(run, Duration::from_secs(60)).await })
    };
    tokio::time::sleep(Duration::from_millis(30)).await;
    http.close().await;
    let closed = |text: &str| text.contains("closed");
    assert!(matches!(waiting.await.unwrap(), Err(ServerError::Unavailable(text)) if closed(&text)));
    assert!(matches!(http.get_run(run).await, Err(ServerError::Unavailable(text)) if closed(&text)));
    assert!(matches!(http.create_run(request("1")).await, Err(ServerError::Unavailable(text)) if closed(&text)));
}

#[tokio::test]
async fn the_callers_trace_context_is_sent() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hearing = Arc::clone(&heard);
    let agreed = r#"{"json":{"version":1,"namespace":"n","payloadLimit":1,"maxItems":1,"maxWaitMs":1}}"#;
    let app = axum::Router::new().fallback(async move |uri: Uri, headers: HeaderMap| {
        if uri.path() == "/api/native/negotiateV1" {
            return (StatusCode::OK, [(CONTENT_TYPE, "application/json")], agreed);
        }
        hearing.lock().unwrap().push(headers.get("traceparent").cloned());
        (StatusCode::IM_A_TEAPOT, [(CONTENT_TYPE, "text/plain")], "short and stout")
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move { axum::serve(listener, app).await });
    let context = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let http =
        HttpClient::connect(ClientConfig::new(address.to_string())).unwrap().traceparent(|| Some(context.to_owned()));
    let refused = http.list_workers().await;
    assert!(matches!(&refused, Err(ServerError::Invalid(text)) if text.contains("short and stout")), "{refused:?}");
    assert_eq!(heard.lock().unwrap().as_slice(), [Some(context.parse().unwrap())]);
    serving.abort();
}
