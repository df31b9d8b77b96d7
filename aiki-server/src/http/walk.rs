//! Every route, with every kind of key that must not open it.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::sync::Arc;

use aiki_core::{Clock, Name, RunId, Timestamp};
use aiki_runtime::SystemClock;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderName, Request, StatusCode};
use tower::ServiceExt;

use super::{Role, RouterOptions, contract, native};
use crate::ServerBuilder;
use crate::keys::{KeyId, KeyStore, Keyring, MemoryKeys, NewKey};
use crate::server::Server;

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

pub(super) struct House {
    server: Server,
    router: Router,
    keys: Arc<MemoryKeys>,
}

pub(super) struct Answer {
    pub(super) status: StatusCode,
    content_type: String,
    pub(super) body: String,
}

impl Answer {
    fn id(&self) -> String {
        let answer: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        answer["json"]["id"].as_str().unwrap().to_owned()
    }
}

impl House {
    async fn new() -> Self {
        Self::over(Server::builder()).await
    }

    pub(super) async fn over(builder: ServerBuilder) -> Self {
        let server = builder.start().await.unwrap();
        let keys = Arc::new(MemoryKeys::default());
        let options = RouterOptions::default().authorize(Keyring::new(keys.clone(), Arc::new(SystemClock)));
        Self { router: server.router_with(options), server, keys }
    }

    pub(super) fn key(&self, namespace: &str, role: Role, expires_at: Option<Timestamp>) -> String {
        let key = NewKey::random().unwrap();
        self.keys.add(&key.stored(Name::new(namespace), role, SystemClock.now(), expires_at)).unwrap();
        key.text().to_owned()
    }

    async fn call(&self, procedure: &str, authorization: Option<&str>, input: &str) -> Answer {
        let mut request = Request::post(format!("/api/{procedure}"))
            .header("content-type", "application/json")
            .header(HeaderName::from_static("traceparent"), TRACE);
        if let Some(value) = authorization {
            request = request.header("authorization", value);
        }
        let request = request.body(Body::from(format!("{{\"json\":{input}}}"))).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
        let body = to_bytes(response.into_body(), 100_000).await.unwrap();
        Answer { status, content_type, body: String::from_utf8(body.to_vec()).unwrap() }
    }

    pub(super) async fn called(&self, procedure: &str, key: &str, input: &str) -> Answer {
        self.call(procedure, Some(&format!("Bearer {key}")), input).await
    }
}

pub(super) fn procedures() -> Vec<(&'static str, Role)> {
    let all = contract::procedures().into_iter().chain(native::procedures());
    all.map(|procedure| (procedure.name, procedure.role)).collect()
}

#[tokio::test]
async fn no_procedure_is_open_to_who_has_no_good_key() {
    let house = House::new().await;
    let revoked = house.key("shop", Role::Admin, None);
    house.keys.revoke(&KeyId::of(&revoked).unwrap()).unwrap();
    let expired = house.key("shop", Role::Admin, Some(SystemClock.now()));
    let good = house.key("shop", Role::Admin, None);
    let unknown = NewKey::random().unwrap();
    let refused = [
        None,
        Some(String::new()),
        Some("Bearer ".to_owned()),
        Some(format!("Bearer {}", unknown.text())),
        Some(format!("Bearer {}", &good[..good.len() - 1])),
        Some(format!("bearer {good}")),
        Some(format!("Basic {good}")),
        Some(good.clone()),
        Some(format!("Bearer {revoked}")),
        Some(format!("Bearer {expired}")),
    ];
    let names = procedures();
    assert!(names.len() > 20, "the walk sees the table");
    for name in names.iter().map(|(name, _)| *name).chain(["no/suchProcedure", "", "workflowRun"]) {
        for key in &refused {
            let answer = house.call(name, key.as_deref(), "{}").await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{name} {key:?}");
            assert!(answer.content_type.starts_with("text/plain"), "{name} {}", answer.content_type);
            assert!(!answer.body.is_empty() && !answer.body.contains(&good), "{}", answer.body);
        }
    }
    assert_ne!(house.called("workflowRun/getStateV1", &good, "{}").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_key_of_too_low_a_role_is_told_which_one_it_takes() {
    let house = House::new().await;
    let keys = [Role::Client, Role::Worker, Role::Admin].map(|role| (role, house.key("shop", role, None)));
    let mut refused = 0;
    for (name, needed) in procedures() {
        for (role, key) in &keys {
            let answer = house.called(name, key, "{}").await;
            if *role < needed {
                refused += 1;
                assert_eq!(answer.status, StatusCode::FORBIDDEN, "{name} {role:?}");
                assert!(
                    answer.body.contains("\"FORBIDDEN\"") && answer.body.contains(needed.as_str()),
                    "{}",
                    answer.body
                );
            } else {
                // The input says nothing: that is as far as it gets.
                assert_ne!(answer.status, StatusCode::FORBIDDEN, "{name} {role:?}: {}", answer.body);
            }
        }
    }
    assert!(refused >= 4, "there are procedures for workers and for admins");
}

#[tokio::test]
async fn two_namespaces_do_not_see_each_other() {
    let house = House::new().await;
    let (shop, bank) = (house.key("shop", Role::Admin, None), house.key("bank", Role::Admin, None));
    let new = r#"{"name":"w","versionId":"1","inputHash":{"value":"h"},"options":{"reference":{"id":"r"}}}"#;
    let (first, second) = (
        house.called("workflowRun/createV1", &shop, new).await,
        house.called("workflowRun/createV1", &bank, new).await,
    );
    assert_eq!((first.status, second.status), (StatusCode::OK, StatusCode::OK), "{} {}", first.body, second.body);
    let (first, second) = (first.id(), second.id());
    assert_ne!(first, second, "a reference id is a namespace's own");
    let by_id = |id: &str| format!("{{\"id\":\"{id}\"}}");
    for (key, own, foreign) in [(&shop, &first, &second), (&bank, &second, &first)] {
        assert_eq!(house.called("workflowRun/getByIdV1", key, &by_id(own)).await.status, StatusCode::OK);
        for procedure in ["getByIdV1", "getStateV1", "listTransitionsV1"] {
            let answer = house.called(&format!("workflowRun/{procedure}"), key, &by_id(foreign)).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{procedure}: {}", answer.body);
        }
        let claim = r#"{"workflows":[{"source":"user","name":"w","versionId":"1"}],"limit":10}"#;
        let claimed = house.called("workflowRun/claimReadyV1", key, claim).await.body;
        assert!(claimed.contains(own.as_str()) && !claimed.contains(foreign.as_str()), "{claimed}");
    }
    let cancelled = house.called("workflowRun/cancelByIdsV1", &bank, &format!("{{\"ids\":[\"{first}\"]}}")).await;
    assert!(!cancelled.body.contains(&first), "{}", cancelled.body);
}

#[tokio::test]
async fn the_trace_of_the_request_stays_with_the_run() {
    let house = House::new().await;
    let key = house.key("shop", Role::Client, None);
    let new = r#"{"name":"w","versionId":"1","inputHash":{"value":"h"}}"#;
    let id: RunId = house.called("workflowRun/createV1", &key, new).await.id().parse().unwrap();
    let run = house.server.client_for(Name::new("shop")).server().get_run(id).await.unwrap();
    assert_eq!(run.trace.map(|trace| trace.to_string()).as_deref(), Some(TRACE));
}
