//! Calls that were recorded between other implementations of the contract, replayed against our server on every store.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aiki_core::{Clock, Name};
use aiki_runtime::SystemClock;
use aiki_server::http::{Role, RouterOptions};
use aiki_server::keys::{KeyStore, Keyring, MemoryKeys, NewKey};
use aiki_server::{Server, ServerBuilder};
use integration_tests::exchange::differences::Differences;
use integration_tests::exchange::live::Live;
use integration_tests::exchange::player::Patience;
use integration_tests::exchange::recording::Recording;
use integration_tests::exchange::report::Outcome;
use integration_tests::exchange::{Options, replay};

/// Replays everything, with a key; each scenario has to be as recorded, but for the known differences.
async fn replay_all(builder: ServerBuilder) {
    // The recorded crash takes 90 s; no other scenario is silent for so long.
    let server = builder.plain_lease(Duration::from_secs(20)).start().await.unwrap();
    let (keys, key) = (Arc::new(MemoryKeys::default()), NewKey::random().unwrap());
    keys.add(&key.stored(Name::new("default"), Role::Admin, SystemClock.now(), None)).unwrap();
    let options = RouterOptions::default().authorize(Keyring::new(keys, Arc::new(SystemClock)));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let app = server.router_with(options);
    let serving = tokio::spawn(async move { axum::serve(listener, app).await });

    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("exchanges");
    let recordings = Recording::load_all(&folder).unwrap();
    assert!(recordings.len() >= 36, "{} recordings in {}", recordings.len(), folder.display());
    let live = Live::new(&url, Some(key.text().to_owned())).unwrap();
    let differences = Differences::of_the_contract().unwrap();
    let options = Options { jobs: recordings.len(), patience: Patience::default(), nonce: "test".into() };
    let reports = replay(&live, &recordings, &differences, &options, |report| println!("{report}")).await;
    serving.abort();
    server.close().await;
    let other: Vec<String> = reports
        .iter()
        .filter(|report| !matches!(report.outcome, Outcome::Ok { .. }))
        .map(|report| report.to_string())
        .collect();
    assert!(other.is_empty() && reports.len() == recordings.len(), "{}", other.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_calls_are_answered_as_recorded_in_memory() {
    replay_all(Server::builder().memory()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_calls_are_answered_as_recorded_with_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    replay_all(Server::builder().sqlite(folder.path().join("aiki.db"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_calls_are_answered_as_recorded_with_postgres() {
    let schema = test_postgres::Schema::fresh().await;
    replay_all(Server::builder().postgres(&schema.url).postgres_schema(&schema.name)).await;
}
