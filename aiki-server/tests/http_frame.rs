//! The frame of every call: bodies, content types, limits, methods, headers, roles.

#![cfg(feature = "http")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod caller;

use std::time::Duration;

use aiki_server::Server;
use aiki_server::http::{Authorize, AuthorizeError, Caller, Everyone, Role, RouterOptions};
use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method};
use caller::{call, ok, post, request, send};
use serde_json::json;
use tokio::time::Instant;

async fn router() -> (Server, Router) {
    router_with(RouterOptions::default()).await
}

async fn router_with(options: RouterOptions) -> (Server, Router) {
    let server = Server::builder().start().await.unwrap();
    let router = server.router_with(options);
    (server, router)
}

fn start(name: &str) -> serde_json::Value {
    json!({ "name": name, "versionId": "1", "inputHash": { "value": "h" } })
}

#[tokio::test]
async fn the_content_type_decides_whether_there_is_an_input() {
    let (_server, router) = router().await;
    let body = json!({ "json": start("w") }).to_string();
    for (content_type, status) in [
        (None, 200),
        (Some("application/json"), 200),
        (Some("application/json; charset=utf-8"), 200),
        (Some("Application/JSON"), 200),
        (Some("text/plain"), 400),
        (Some("application/x-www-form-urlencoded"), 400),
        (Some("multipart/form-data; boundary=x"), 400),
    ] {
        let mut request = request(Method::POST, "/api/workflowRun/createV1", body.clone());
        request.headers_mut().remove("content-type");
        if let Some(content_type) = content_type {
            request.headers_mut().insert("content-type", content_type.parse().unwrap());
        }
        let answer = send(&router, request).await;
        assert_eq!(answer.status, status, "{content_type:?}: {}", answer.text);
    }
}

#[tokio::test]
async fn the_envelope_of_a_form_is_its_field_data_and_there_is_no_place_for_files() {
    let (_server, router) = router().await;
    let field =
        |name: &str, text: &str| format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n");
    let envelope = json!({ "json": start("w"), "meta": [], "maps": [] }).to_string();
    let data = field("data", &envelope);
    for (form, status, told) in [
        (format!("{data}--x--\r\n"), 200, "\"id\""),
        (format!("{data}{}--x--\r\n", field("0", "bytes")), 400, "`0`: files are not stored"),
        ("--x--\r\n".to_owned(), 400, "no field `data`"),
        (data.clone(), 400, "the form cannot be read"),
        (format!("{}--x--\r\n", field("data", "{")), 400, "malformed"),
    ] {
        let mut request = request(Method::POST, "/api/workflowRun/createV1", form.clone());
        request.headers_mut().insert("content-type", "multipart/form-data; boundary=x".parse().unwrap());
        let answer = send(&router, request).await;
        assert_eq!(answer.status, status, "{form}: {}", answer.text);
        assert!(answer.text.contains(told), "{form}: {}", answer.text);
    }
}

#[tokio::test]
async fn any_method_but_get_is_a_call() {
    let (_server, router) = router().await;
    for method in ["POST", "PUT", "PATCH", "DELETE", "BREW"] {
        let body = json!({ "json": start("w") }).to_string();
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let answer = send(&router, request(method.clone(), "/api/workflowRun/createV1", body)).await;
        assert_eq!(answer.status, 200, "{method}: {}", answer.text);
    }
    let answer = send(&router, request(Method::GET, "/api/workflowRun/createV1", "")).await;
    assert_eq!((answer.status, answer.code().as_str()), (405, "METHOD_NOT_SUPPORTED"));
}

#[tokio::test]
async fn what_a_get_says_is_read_before_its_method_is_refused() {
    let (_server, router) = router().await;
    let get = async |query: &str| {
        let answer = send(&router, request(Method::GET, &format!("/api/workflowRun/getByIdV1?{query}"), "")).await;
        (answer.status, answer.code())
    };
    let (malformed, refused) = ((400, "BAD_REQUEST".to_owned()), (405, "METHOD_NOT_SUPPORTED".to_owned()));
    assert_eq!(get("data=%7Bbad").await, malformed);
    assert_eq!(get("data=%7B%22json%22%3A%7B%22id%22%3A%22x%22%7D%7D").await, refused);
    assert_eq!(get("").await, refused);
}

#[tokio::test]
async fn paths_may_be_encoded_and_end_in_one_slash() {
    let (_server, router) = router().await;
    for (path, status) in [
        ("/api/workflowRun/createV1", 200),
        ("/api/workflowRun/createV1/", 200),
        ("/api/workflow%52un/create%561", 200),
        ("/api/workflowRun/createV1?trace=1", 200),
        ("/api/workflowRun/createV1//", 404),
        ("/api//workflowRun/createV1", 404),
        ("/api/workflowRun%2FcreateV1", 404),
        ("/api/workflowrun/createV1", 404),
        ("/API/workflowRun/createV1", 404),
    ] {
        let answer = send(&router, request(Method::POST, path, json!({ "json": start("w") }).to_string())).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text);
        if status == 404 {
            assert_eq!(
                (answer.text.as_str(), answer.header("content-type")),
                ("Not Found", "text/plain;charset=utf-8")
            );
        }
    }
}

#[tokio::test]
async fn a_call_without_output_answers_an_empty_envelope() {
    let (_server, router) = router().await;
    let answer = call(&router, "workflowRun/claimRefreshV1", json!({ "id": "x" })).await;
    assert_eq!((answer.status, answer.text.as_str()), (200, "{}"));
    assert_eq!(answer.header("content-type"), "application/json");
}

#[tokio::test]
async fn bodies_that_cannot_be_read_say_why() {
    let (_server, router) = router().await;
    for (body, why) in [
        (&b"{\"json\":{\"id\":\"\xff\"}}"[..], "UTF-8"),
        (b"{bad", "not JSON"),
        (b"{\"json\":{}} trailing", "not JSON"),
        (b"null", "null"),
        (br#"{"json":{"id":"x"},"meta":[[3,"nope"]]}"#, "meta"),
        (br#"{"json":{"id":"x"},"meta":[[9,"id"]]}"#, "meta"),
        (br#"{"json":{"id":"x"},"meta":{}}"#, "meta"),
        (br#"{"json":["x"]}"#, "object"),
        (br#"{"json":{"id":null}}"#, "`id`"),
        (br#"{"json":{"id":5}}"#, "`id`"),
        (b"", "json"),
    ] {
        let answer = post(&router, "workflowRun/getStateV1", body).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "BAD_REQUEST"), "{body:?}");
        assert!(answer.message().contains(why), "{why}: {}", answer.message());
    }
}

#[tokio::test]
async fn of_a_key_that_is_given_twice_the_last_counts() {
    let (_server, router) = router().await;
    let twice = r#"{"json":{"name":"w","versionId":"1","name":"","inputHash":{"value":"h"}}}"#;
    assert_eq!(post(&router, "workflowRun/createV1", twice).await.status, 400);
    let body = r#"{"json":1,"json":{"name":"","name":"last","versionId":"1","inputHash":{"value":"h"}}}"#;
    let run = post(&router, "workflowRun/createV1", body).await.output();
    assert_eq!(ok(&router, "workflowRun/getByIdV1", run).await["run"]["name"], "last");
}

#[tokio::test]
async fn payloads_come_back_as_they_were_sent() {
    let (_server, router) = router().await;
    for (input, meta) in [
        (r#"{"b":1.0,"a":12345678901234567890123,"e":1E5}"#, "[]"),
        (r#"{"lone":"\ud83d","slash":"\/"}"#, "[]"),
        (
            r#"{"at":"2026-01-01T00:00:00.000Z","n":[null],"big":"12"}"#,
            r#"[[1,"input","at"],[2,"input","n",0],[0,"input","big"]]"#,
        ),
        ("null", "[]"),
    ] {
        let body = format!(
            r#"{{"json":{{"name":"w","versionId":"1","inputHash":{{"value":"h"}},"input":{input}}},"meta":{meta}}}"#
        );
        let answer = post(&router, "workflowRun/createV1", body).await;
        let found = call(&router, "workflowRun/getByIdV1", answer.output()).await;
        assert!(found.text.contains(&format!(r#""input":{input}"#)), "{input}: {}", found.text);
    }
}

#[tokio::test]
async fn an_undefined_key_counts_as_absent() {
    let (_server, router) = router().await;
    let body =
        r#"{"json":{"name":"w","versionId":"1","inputHash":{"value":"h"},"options":null},"meta":[[3,"options"]]}"#;
    assert_eq!(post(&router, "workflowRun/createV1", body).await.status, 200);
    let stats = post(&router, "workflowRun/getStateV1", r#"{"json":{"id":"x"},"meta":[[3]]}"#).await;
    assert_eq!(stats.status, 400);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_announced_or_not() {
    let (_server, router) = router_with(RouterOptions::default().body_limit(1000)).await;
    let large = "x".repeat(1001);
    let mut announced = request(Method::POST, "/api/workflowRun/getStateV1", large.clone());
    announced.headers_mut().insert("content-length", "1001".parse().unwrap());
    let streamed = request(Method::POST, "/api/workflowRun/getStateV1", drip(large, 400, Duration::ZERO));
    for request in [announced, streamed] {
        let answer = send(&router, request).await;
        assert_eq!((answer.status, answer.code().as_str()), (413, "PAYLOAD_TOO_LARGE"));
        assert_eq!(answer.header("connection"), "close");
    }
    let fits = format!(r#"{{"json":{{"id":"x"}},"more":"{}"}}"#, "x".repeat(900));
    assert_eq!(post(&router, "workflowRun/getStateV1", fits).await.status, 404);
}

#[tokio::test]
async fn all_bodies_together_have_a_limit() {
    let (_server, router) = router_with(RouterOptions::default().bodies_limit(8 * 1024)).await;
    let body = format!(r#"{{"json":{{"id":"x"}},"more":"{}"}}"#, "x".repeat(9000));
    let answer = post(&router, "workflowRun/getStateV1", body).await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "SERVICE_UNAVAILABLE"));
    // What was taken was given back.
    let body = format!(r#"{{"json":{{"id":"x"}},"more":"{}"}}"#, "x".repeat(7000));
    for _ in 0..3 {
        assert_eq!(post(&router, "workflowRun/getStateV1", body.clone()).await.status, 404);
    }
}

#[tokio::test]
async fn nesting_has_a_limit_and_no_stack_is_at_risk() {
    let (_server, router) = router().await;
    let nested = |levels: usize| {
        let (open, close) = ("[".repeat(levels), "]".repeat(levels));
        format!(r#"{{"json":{{"name":"w","versionId":"1","inputHash":{{"value":"h"}},"input":{open}{close}}}}}"#)
    };
    assert_eq!(post(&router, "workflowRun/createV1", nested(98)).await.status, 200);
    for levels in [99, 1_000_000] {
        let answer = post(&router, "workflowRun/createV1", nested(levels)).await;
        assert_eq!(answer.status, 400);
        assert!(answer.message().contains("deeper than 100 levels"), "{}", answer.message());
    }
}

/// A body that comes in parts, one after each interval.
fn drip(text: impl Into<Bytes>, part: usize, every: Duration) -> Body {
    Body::from_stream(futures::stream::unfold(text.into(), move |mut rest| async move {
        if !every.is_zero() {
            tokio::time::sleep(every).await;
        }
        let next = rest.split_to(part.min(rest.len()));
        (!next.is_empty()).then_some((Ok::<_, std::io::Error>(next), rest))
    }))
}

#[tokio::test(start_paused = true)]
async fn a_byte_per_second_is_not_waited_for() {
    let (_server, router) = router().await;
    let body = json!({ "json": { "id": "a long enough id to take more than thirty seconds" } }).to_string();
    let began = Instant::now();
    let slow = drip(body.clone(), 1, Duration::from_secs(1));
    let answer = send(&router, request(Method::POST, "/api/workflowRun/getStateV1", slow)).await;
    assert_eq!((answer.status, answer.code().as_str()), (408, "TIMEOUT"));
    assert_eq!(began.elapsed(), Duration::from_secs(30));
    assert_eq!(answer.header("connection"), "close");
    // Faster, it arrives.
    let faster = drip(body, 4, Duration::from_secs(1));
    let answer = send(&router, request(Method::POST, "/api/workflowRun/getStateV1", faster)).await;
    assert_eq!(answer.status, 404);
}

#[tokio::test]
async fn every_answer_carries_the_id_of_its_request() {
    let (_server, router) = router().await;
    for path in ["/health", "/nope", "/api/nope", "/api/workflowRun/getStateV1"] {
        let first = send(&router, request(Method::POST, path, "{}")).await;
        let second = send(&router, request(Method::POST, path, "{}")).await;
        assert!(!first.header("x-request-id").is_empty(), "{path}");
        assert_ne!(first.header("x-request-id"), second.header("x-request-id"), "{path}");
    }
    for (given, kept) in [("mine-1", true), ("with space", false), (&"x".repeat(129), false)] {
        let mut request = request(Method::GET, "/health", "");
        request.headers_mut().insert("x-request-id", given.parse().unwrap());
        request.headers_mut().insert("x-trace-id", "trace".parse().unwrap());
        let answer = send(&router, request).await;
        assert_eq!(answer.header("x-request-id") == given, kept, "{given}");
        assert!(answer.headers.get("x-trace-id").is_none());
    }
}

#[tokio::test]
async fn browsers_are_told_what_the_deployable_server_tells_them() {
    let (_server, router) =
        router_with(RouterOptions::default().origins(["https://a.example", "https://b.example"])).await;
    for (origin, allowed) in [("https://b.example", "https://b.example"), ("https://evil.example", "")] {
        for (method, path, status) in [
            (Method::OPTIONS, "/api/task/getByIdV1", 204),
            (Method::OPTIONS, "/nope", 204),
            (Method::GET, "/health", 200),
        ] {
            let mut request = request(method, path, "");
            request.headers_mut().insert("origin", origin.parse().unwrap());
            let answer = send(&router, request).await;
            assert_eq!(answer.status, status, "{path}");
            assert_eq!(answer.header("access-control-allow-origin"), allowed);
            assert_eq!(answer.header("access-control-allow-methods"), "GET, POST, PUT, DELETE, OPTIONS");
            assert_eq!(
                answer.header("access-control-allow-headers"),
                "Content-Type, Authorization, x-trace-id, Accept"
            );
            assert_eq!(answer.header("access-control-allow-credentials"), "true");
        }
    }
    let (_server, router) = router_with(RouterOptions::default().origins([] as [&str; 0])).await;
    let answer = send(&router, request(Method::OPTIONS, "/health", "")).await;
    assert_eq!(answer.status, 405);
    assert!(answer.headers.get("access-control-allow-origin").is_none());
}

/// Everyone has the role in the header `role`; `panic` breaks the authorizer.
struct ByHeader;

#[async_trait]
impl Authorize for ByHeader {
    async fn authorize(&self, headers: &HeaderMap) -> Result<Caller, AuthorizeError> {
        let role = match headers.get("role").map(|role| role.to_str().unwrap()) {
            Some("client") => Role::Client,
            Some("worker") => Role::Worker,
            Some("panic") => panic!("secret at line 7"),
            _ => Role::Admin,
        };
        let namespace = headers.get("namespace").map_or("default", |name| name.to_str().unwrap());
        Ok(Caller { namespace: namespace.into(), role })
    }
}

async fn as_role(router: &Router, role: &str, procedure: &str, input: serde_json::Value) -> caller::Answer {
    let mut request = request(Method::POST, &format!("/api/{procedure}"), json!({ "json": input }).to_string());
    request.headers_mut().insert("role", role.parse().unwrap());
    send(router, request).await
}

#[tokio::test]
async fn a_key_for_clients_executes_nothing() {
    let (_server, router) = router_with(RouterOptions::default().authorize(ByHeader)).await;
    let run = ok(&router, "workflowRun/createV1", start("w")).await["id"].clone();
    let claim = json!({ "workflows": [{ "source": "user", "name": "w", "versionId": "1" }], "limit": 1 });
    let running = json!({ "type": "optimistic", "id": run, "expectedRevision": 1, "state": { "status": "running" } });
    let cancel = json!({ "type": "pessimistic", "id": run, "state": { "status": "cancelled" } });
    let child = json!({ "name": "c", "versionId": "1", "inputHash": { "value": "h" },
        "parent": { "workflowRunId": run, "expectedRevision": 1 } });
    let set = json!({ "type": "new", "workflowRunId": run, "taskName": "t", "inputHash": "h",
        "state": { "status": "completed", "output": 1 } });
    for (role, procedure, input, status) in [
        ("client", "workflowRun/claimReadyV1", &claim, 403),
        ("client", "workflowRun/transitionStateV1", &running, 403),
        ("client", "workflowRun/createV1", &child, 403),
        ("client", "task/setStateV1", &set, 403),
        ("worker", "task/setStateV1", &set, 403),
        ("worker", "workflowRun/claimReadyV1", &claim, 200),
        ("worker", "workflowRun/transitionStateV1", &running, 200),
        ("client", "workflowRun/transitionStateV1", &cancel, 200),
    ] {
        let answer = as_role(&router, role, procedure, input.clone()).await;
        assert_eq!(answer.status, status, "{role} {procedure}: {}", answer.text);
        if status == 403 {
            assert_eq!(answer.code(), "FORBIDDEN");
        }
    }
}

#[tokio::test]
async fn namespaces_do_not_see_each_other() {
    let (server, router) = router_with(RouterOptions::default().authorize(ByHeader)).await;
    let run = ok(&router, "workflowRun/createV1", start("w")).await;
    let mut request = request(Method::POST, "/api/workflowRun/getByIdV1", json!({ "json": run }).to_string());
    request.headers_mut().insert("namespace", "other".parse().unwrap());
    assert_eq!(send(&router, request).await.code(), "NOT_FOUND");
    let other = server.router_with(RouterOptions::default().authorize(Everyone::of("default")));
    assert_eq!(ok(&other, "workflowRun/getByIdV1", run).await["run"]["name"], "w");
}

#[tokio::test]
async fn a_panic_is_answered_without_what_it_said() {
    let (_server, router) = router_with(RouterOptions::default().authorize(ByHeader)).await;
    let answer = as_role(&router, "panic", "workflowRun/getStateV1", json!({ "id": "x" })).await;
    assert_eq!((answer.status, answer.code().as_str()), (500, "INTERNAL_SERVER_ERROR"));
    assert!(!answer.text.contains("secret") && !answer.header("x-request-id").is_empty(), "{}", answer.text);
    assert_eq!(as_role(&router, "client", "workflowRun/getStateV1", json!({ "id": "x" })).await.status, 404);
}

#[tokio::test]
async fn a_closed_server_says_to_come_again_and_no_more() {
    let (server, router) = router().await;
    server.close().await;
    let answer = call(&router, "workflowRun/createV1", start("w")).await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "SERVICE_UNAVAILABLE"));
    assert!(answer.message().contains("send the request again later"), "{}", answer.message());
}

#[tokio::test]
async fn the_router_lives_under_a_prefix_beside_other_routes() {
    let (_server, router) = router().await;
    let app = Router::new().route("/mine", axum::routing::get(async || "mine")).nest("/aiki", router);
    assert_eq!(send(&app, request(Method::GET, "/mine", "")).await.text, "mine");
    assert_eq!(send(&app, request(Method::GET, "/aiki/health", "")).await.text, r#"{"status":"ok"}"#);
    let body = json!({ "json": start("w") }).to_string();
    assert_eq!(send(&app, request(Method::POST, "/aiki/api/workflowRun/createV1", body)).await.status, 200);
    assert_eq!(send(&app, request(Method::GET, "/aiki/nope", "")).await.text, "Not Found");
}
