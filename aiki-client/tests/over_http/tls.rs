//! A server behind TLS with a certificate authority of one's own.
#![allow(clippy::unwrap_used, reason = "for tests")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aiki_client::{ClientConfig, HttpClient};
use aiki_conformance::server::{create_as, request};
use aiki_core::{Client, ServerClient, ServerError};
use aiki_server::Server;
use axum::serve::Listener;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::server::TlsStream;

/// Ends TLS in front of the router, as a proxy does.
struct Tls {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = self.listener.accept().await.unwrap();
            // A client that refuses the certificate ends its connection only.
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// A server whose certificate, for `localhost`, an authority of its own has signed.
struct Rig {
    server: Server,
    port: u16,
    folder: TempDir,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Rig {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (issuer, authority) = authority();
        std::fs::write(folder.path().join("ca.pem"), authority).unwrap();
        let key = KeyPair::generate().unwrap();
        let signed = CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        let private = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let tls = ServerConfig::builder_with_provider(default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![signed.into()], private)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let tls = Tls { listener, acceptor: TlsAcceptor::from(Arc::new(tls)) };
        let server = Server::builder().start().await.unwrap();
        let router = server.router();
        let serving = tokio::spawn(async move { axum::serve(tls, router).await });
        Self { server, port, folder, serving }
    }

    fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    fn client(&self, host: &str, ca_file: Option<PathBuf>) -> HttpClient {
        let url = format!("https://{host}:{}", self.port);
        let retry_for = Duration::from_secs(60);
        HttpClient::connect(ClientConfig { ca_file, retry_for, ..ClientConfig::new(url) }).unwrap()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// An authority, and its certificate in PEM form.
fn authority() -> (Issuer<'static, KeyPair>, String) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    (Issuer::new(params, key), pem)
}

#[tokio::test]
async fn a_server_of_a_private_authority_is_spoken_to_when_the_authority_is_named() {
    let rig = Rig::start().await;
    let http = rig.client("localhost", Some(rig.ca_file()));
    http.check().await.unwrap();
    let run = create_as(&Client::new(http.clone()), request("1")).await;
    assert_eq!(rig.server.client().server().get_run(run).await.unwrap().id, run);
    assert_eq!(http.list_workers().await.unwrap().len(), 0);
}

/// What is said at the first request, which is not sent again.
async fn refused(http: &HttpClient) -> String {
    let refused = http.create_run(request("1")).await;
    assert_eq!(http.requests(), 1, "asking again does not help: {refused:?}");
    match refused {
        Err(ServerError::Unauthorized(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_unknown_authority_is_refused_at_once_and_the_text_says_where_to_name_it() {
    let rig = Rig::start().await;
    let text = refused(&rig.client("localhost", None)).await;
    assert!(text.contains(&format!("https://localhost:{}", rig.port)) && text.contains("`caFile`"), "{text}");

    // Of the same name, with another key.
    let other = rig.folder.path().join("other.pem");
    std::fs::write(&other, authority().1).unwrap();
    let text = refused(&rig.client("localhost", Some(other))).await;
    assert!(text.contains("not trusted here") && text.contains("`caFile`"), "{text}");
    assert_eq!(rig.server.client().workers().await.unwrap().len(), 0, "the server is well");
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused_at_once_by_both_names() {
    let rig = Rig::start().await;
    let text = refused(&rig.client("127.0.0.1", Some(rig.ca_file()))).await;
    let named = text.contains("https://127.0.0.1") && text.contains("localhost") && text.contains("`url`");
    assert!(named, "{text}");
}
