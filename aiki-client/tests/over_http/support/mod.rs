//! Servers on loopback for tests.
#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(unreachable_pub, clippy::unwrap_used, reason = "for tests")]

pub mod abroad;
pub mod front;
pub mod proxy;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aiki_client::{ClientConfig, HttpClient, Secret};
use aiki_conformance::server::{Recorder, ServerHarness};
use aiki_core::{Client, Clock, Name, Timestamp};
use aiki_server::Server;
use aiki_server::http::{Authorize, AuthorizeError, Caller, Role, RouterOptions};
use async_trait::async_trait;
use axum::Router;
use axum::http::HeaderMap;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

pub const PAYLOAD_LIMIT: usize = 200_000;
pub const HISTORY_LIMIT: u32 = 3_000;

/// A clock that stands still until it is stepped.
#[derive(Debug)]
pub struct ManualClock(AtomicU64);

impl Default for ManualClock {
    fn default() -> Self {
        Self(AtomicU64::new(1_772_323_200_000))
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}

/// The key `key-x` is for the namespace `x`.
struct Keys;

#[async_trait]
impl Authorize for Keys {
    async fn authorize(&self, headers: &HeaderMap) -> Result<Caller, AuthorizeError> {
        let header = headers.get("authorization").and_then(|header| header.to_str().ok());
        match header.and_then(|header| header.strip_prefix("Bearer key-")) {
            Some(namespace) => Ok(Caller { namespace: Name::new(namespace), role: Role::Admin }),
            None => Err(AuthorizeError::Refused("the key is not known".into())),
        }
    }
}

/// A server that answers on a port until it is dropped, together with its connections.
pub struct Served {
    pub address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Served {
    /// On any port.
    pub async fn on_any(server: &Server) -> Self {
        Self::on(server, "127.0.0.1:0".parse().unwrap()).await
    }

    /// With the procedures of the contract only.
    pub async fn plain(server: &Server) -> Self {
        Self::with(server, "127.0.0.1:0".parse().unwrap(), false).await
    }

    /// Likewise, with ids as servers of other makes give them.
    pub async fn abroad(server: &Server) -> Self {
        let router = server.router_with(RouterOptions::default().authorize(Keys).native(false));
        Self::stub(abroad::foreign_ids(router)).await
    }

    /// Whatever this answers.
    pub async fn stub(router: Router) -> Self {
        Self::serve("127.0.0.1:0".parse().unwrap(), router).await
    }

    pub async fn on(server: &Server, address: SocketAddr) -> Self {
        Self::with(server, address, true).await
    }

    async fn with(server: &Server, address: SocketAddr, native: bool) -> Self {
        let router = server.router_with(RouterOptions::default().authorize(Keys).native(native));
        Self::serve(address, router).await
    }

    async fn serve(address: SocketAddr, router: Router) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let listener = listener.into_std().unwrap();
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.spawn(async move { axum::serve(TcpListener::from_std(listener).unwrap(), router).await.unwrap() });
        Self { address, runtime: Some(runtime) }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}

/// What a client of the namespace `default` is configured with.
pub fn config(address: SocketAddr) -> ClientConfig {
    config_for(address, "default")
}

pub fn config_for(address: SocketAddr, namespace: &str) -> ClientConfig {
    let mut config = ClientConfig::new(address.to_string());
    config.api_key = Some(Secret::new(format!("key-{namespace}")));
    config.namespace = Some(Name::new(namespace));
    config
}

/// SQLite behind HTTP, on a clock that is stepped by hand.
pub struct OverHttp {
    clock: Arc<ManualClock>,
    recorder: Arc<Recorder>,
    path: PathBuf,
    native: bool,
    running: Mutex<(Server, Arc<Served>)>,
    _folder: tempfile::TempDir,
}

impl OverHttp {
    pub async fn start() -> Self {
        Self::speaking(true).await
    }

    /// With the procedures of the contract only.
    pub async fn plain() -> Self {
        Self::speaking(false).await
    }

    async fn speaking(native: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (path, clock, recorder) = (folder.path().join("aiki.db"), Arc::default(), Arc::default());
        let running = Mutex::new(Self::serve(&path, &clock, &recorder, native).await);
        Self { clock, recorder, path, native, running, _folder: folder }
    }

    async fn serve(
        path: &Path,
        clock: &Arc<ManualClock>,
        recorder: &Arc<Recorder>,
        native: bool,
    ) -> (Server, Arc<Served>) {
        let server = Server::builder()
            .sqlite(path)
            .clock(clock.clone())
            .publisher(recorder.clone())
            .payload_limit(PAYLOAD_LIMIT)
            .history_limit(HISTORY_LIMIT);
        let server = server.start().await.unwrap();
        let served = Served::with(&server, "127.0.0.1:0".parse().unwrap(), native).await;
        (server, Arc::new(served))
    }

    fn current(&self) -> (Server, Arc<Served>) {
        self.running.lock().unwrap().clone()
    }
}

#[async_trait]
impl ServerHarness for OverHttp {
    fn client_for(&self, namespace: Name) -> Client {
        let (_, served) = self.current();
        Client::new(HttpClient::connect(config_for(served.address, namespace.as_str())).unwrap())
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    async fn advance(&self, by: Duration) {
        self.clock.0.fetch_add(by.as_millis() as u64, Ordering::SeqCst);
        self.current().0.run_due_timers().await.unwrap();
    }

    fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    fn payload_limit(&self) -> usize {
        PAYLOAD_LIMIT
    }

    fn history_limit(&self) -> u32 {
        HISTORY_LIMIT
    }

    fn workers_end_with_server(&self) -> bool {
        false
    }

    async fn restart(&self) {
        self.current().0.close().await;
        let next = Self::serve(&self.path, &self.clock, &self.recorder, self.native).await;
        *self.running.lock().unwrap() = next;
    }
}
