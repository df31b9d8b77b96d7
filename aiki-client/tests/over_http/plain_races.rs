//! What other servers do at unlucky moments.
#![allow(clippy::unwrap_used, reason = "for tests")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aiki_client::HttpClient;
use aiki_conformance::server::event;
use aiki_core::listing::{RunFilter, RunOrder, RunPageRequest};
use aiki_core::{RunId, ServerClient, ServerError};
use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::post;
use serde_json::{Value, json};

use crate::support::{Served, config};

fn envelope(status: StatusCode, answer: &Value) -> impl IntoResponse + use<> {
    (status, [(CONTENT_TYPE, "application/json")], answer.to_string())
}

/// A server that refuses events so many times, because the run moves.
async fn moving(refusals: usize) -> (Served, HttpClient) {
    let left = Arc::new(AtomicUsize::new(refusals));
    let state = || async { envelope(StatusCode::OK, &json!({"json": {"state": {"status": "running"}}})) };
    let send = move || async move {
        match left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)) {
            Ok(_) => {
                let code = "WORKFLOW_RUN_REVISION_CONFLICT";
                let error = json!({"defined": false, "code": code, "status": 409, "message": "moved"});
                envelope(StatusCode::CONFLICT, &json!({ "json": error }))
            }
            Err(_) => envelope(StatusCode::OK, &json!({})),
        }
    };
    let router = Router::new()
        .route("/api/workflowRun/getStateV1", post(state))
        .route("/api/workflowRun/sendEventV1", post(send))
        .fallback(async || (StatusCode::NOT_FOUND, "Not Found"));
    let served = Served::stub(router).await;
    let http = HttpClient::connect(config(served.address)).unwrap();
    (served, http)
}

#[tokio::test]
async fn an_event_that_the_run_moved_away_from_is_sent_again() {
    let paid = event(RunId::from_bits(1), "paid", None);
    let (_served, http) = moving(2).await;
    http.send_event(paid.clone()).await.unwrap();
    let (_served, http) = moving(100).await;
    let refused = http.send_event(paid).await;
    assert!(matches!(&refused, Err(ServerError::Unavailable(_))), "{refused:?}");
}

/// Runs 9 to 0; the two newest go as soon as more than one is asked for.
fn shrinking() -> Router {
    let runs = Arc::new(Mutex::new((0..10_u128).rev().collect::<Vec<_>>()));
    let gone = Arc::new(AtomicUsize::new(0));
    let list = move |body: String| async move {
        let asked: Value = serde_json::from_str(&body).unwrap();
        let number = |key: &str| usize::try_from(asked["json"][key].as_u64().unwrap()).unwrap();
        let (offset, limit) = (number("offset"), number("limit"));
        let mut runs = runs.lock().unwrap();
        if limit > 1 && gone.fetch_add(1, Ordering::SeqCst) == 0 {
            runs.drain(..2);
        }
        let summary = |run: &u128| {
            let id = RunId::from_bits(*run).to_string();
            json!({"id": id, "name": "w", "versionId": "1", "createdAt": 0, "status": "queued"})
        };
        let part: Vec<_> = runs.iter().skip(offset).take(limit).map(summary).collect();
        envelope(StatusCode::OK, &json!({"json": {"runs": part, "total": runs.len()}}))
    };
    let state = || async { envelope(StatusCode::OK, &json!({"json": {"state": {"status": "running"}}})) };
    Router::new()
        .route("/api/workflowRun/listV1", post(list))
        .route("/api/workflowRun/getStateV1", post(state))
        .fallback(async || (StatusCode::NOT_FOUND, "Not Found"))
}

#[tokio::test]
async fn a_list_that_shrinks_while_its_place_is_looked_for_hides_no_run() {
    let served = Served::stub(shrinking()).await;
    let http = HttpClient::connect(config(served.address)).unwrap();
    let after = Some(RunId::from_bits(5));
    let asked = RunPageRequest { order: RunOrder::NewestFirst, after, offset: 0, limit: 2 };
    let page = http.list_runs(RunFilter::default(), asked).await.unwrap();
    let found: Vec<_> = page.runs.iter().map(|run| run.id.to_bits()).collect();
    assert_eq!((found, page.next), (vec![4, 3], Some(RunId::from_bits(3))));
}
