//! From a client's configuration to a client.
#![cfg(feature = "http")]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use aiki::prelude::*;
use aiki::{ClientConfig, ClientConfigError, ConnectError, SubscriberTypes};

#[tokio::test]
async fn an_address_that_cannot_be_used_makes_no_client() {
    let refused = aiki::connect(ClientConfig::new("redis://localhost")).await.unwrap_err();
    assert_eq!(refused, ConnectError::Config(ClientConfigError::Scheme("redis".into())));
}

#[test]
fn what_a_main_returns_says_what_to_do() {
    let file = ClientConfig::from_file("/nowhere/client.json").unwrap_err();
    let boxed: Box<dyn std::error::Error> = Box::new(file.clone());
    for shown in [format!("{boxed:?}"), format!("{:?}", aiki::Error::from(file))] {
        assert!(shown.starts_with("the client's configuration in /nowhere/client.json: "), "{shown}");
        assert!(shown.contains("give the path of a file"), "{shown}");
    }
    let nothing: Box<dyn std::error::Error> = Box::new(aiki::WorkerError::NothingRegistered);
    assert!(format!("{nothing:?}").contains("add one with `worker.workflow_registry().add(..)`"), "{nothing:?}");
    let config: Box<dyn std::error::Error> = Box::new(WorkerConfig::from_json("{\"id\":\"\"}").unwrap_err());
    assert!(format!("{config:?}").contains("or leave it out"), "{config:?}");
}

#[tokio::test]
async fn a_server_that_is_not_there_yet_makes_a_client_and_a_worker_all_the_same() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = format!(r#"{{"url":"{free}","apiKey":"k","retryForMs":50,"namespace":"acme"}}"#);
    let client = aiki::connect(serde_json::from_str::<ClientConfig>(&config).unwrap()).await.unwrap();
    assert_eq!(client.server().namespace(), &Name::new("acme"));
    let worker = WorkerConfig::from_json(r#"{"id":"w","subscriber":{"type":"http"}}"#).unwrap();
    let worker = SubscriberTypes::new().worker(client.clone(), worker).unwrap().build().unwrap();
    assert!(worker.id().starts_with('w'));
    let asked = client.workers().await;
    assert!(matches!(&asked, Err(ServerError::Unavailable(text)) if text.contains(&free.to_string())), "{asked:?}");
}
