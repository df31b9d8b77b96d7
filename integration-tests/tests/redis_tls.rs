//! TLS with a certificate authority of one's own.
#![allow(clippy::expect_used, reason = "helpers of tests")]

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use aiki_core::{Name, Publisher, SubscriberError, SubscriberFactory, Subscription, WorkflowKey};
use aiki_subscriber_redis::{RedisPublisher, RedisStreams, RedisUrl};
use integration_tests::redis::RedisServer;

/// A certificate for `localhost` that has signed itself, and its key.
fn certificate(directory: &Path) {
    let status = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", "key.pem", "-out", "cert.pem"])
        .current_dir(directory)
        .stderr(Stdio::null())
        .status()
        .expect("openssl is installed");
    assert!(status.success(), "openssl makes a certificate");
}

#[tokio::test]
async fn a_private_authority_is_trusted_when_it_is_named_and_only_then() {
    let directory = tempfile::tempdir().expect("a directory");
    certificate(directory.path());
    let file = |name: &str| directory.path().join(name).to_str().expect("a path in UTF-8").to_owned();
    let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
    let (cert, key, tls_port) = (file("cert.pem"), file("key.pem"), port.to_string());
    let _server = RedisServer::start_with(&[
        "--tls-port",
        &tls_port,
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &cert,
        "--tls-auth-clients",
        "no",
    ])
    .await;

    let subscription = Subscription {
        worker: Name::new("worker"),
        namespace: Name::new("tls"),
        workflows: vec![WorkflowKey::user("orders", "1.0.0")],
        pools: Vec::new(),
    };
    let plain: RedisUrl = format!("rediss://localhost:{port}").parse().expect("a good URL");
    let named = plain.clone().certificate_authority(&cert);
    let missing = plain.clone().certificate_authority(file("nothing.pem"));

    let subscriber = RedisStreams::new(named.clone())
        .block_time(Duration::from_millis(20))
        .subscribe(subscription.clone())
        .await
        .expect("a subscription");
    let waiting = tokio::time::timeout(Duration::from_secs(5), subscriber.receive(1)).await;
    assert_eq!(waiting.expect("in time"), Ok(Vec::new()));
    assert_eq!(RedisPublisher::new(named).publish(&[]).await.failed, []);
    subscriber.close().await.expect("a clean end");

    let error = RedisStreams::new(plain).subscribe(subscription.clone()).await.err();
    assert!(matches!(error, Some(SubscriberError::Unavailable(_) | SubscriberError::Misconfigured(_))), "{error:?}");
    let error = RedisStreams::new(missing).subscribe(subscription).await.err();
    assert!(matches!(&error, Some(SubscriberError::Misconfigured(text)) if text.contains("nothing.pem")), "{error:?}");
}
