//! Servers for tests.
#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(unreachable_pub, clippy::unwrap_used, reason = "for tests")]

#[cfg(feature = "sqlite")]
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aiki_conformance::server::{Recorder, ServerHarness};
use aiki_core::{Client, Clock, Name, Timestamp};
use aiki_runtime::{SeededEntropy, VirtualClock};
use aiki_server::Server;
use async_trait::async_trait;

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

impl ManualClock {
    pub fn step(&self, by: Duration) {
        self.0.fetch_add(by.as_millis() as u64, Ordering::SeqCst);
    }

    pub fn step_back(&self, by: Duration) {
        self.0.fetch_sub(by.as_millis() as u64, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}

/// The memory store under tokio's virtual time: its own timer does what is due.
pub struct Memory {
    pub server: Server,
    clock: Arc<VirtualClock>,
    recorder: Arc<Recorder>,
}

impl Memory {
    pub async fn start() -> Self {
        let (clock, recorder) = (Arc::new(VirtualClock::default()), Arc::new(Recorder::default()));
        let server = Server::builder()
            .clock(clock.clone())
            .entropy(Arc::new(SeededEntropy::new(1)))
            .publisher(recorder.clone())
            .payload_limit(PAYLOAD_LIMIT)
            .history_limit(HISTORY_LIMIT);
        Self { server: server.start().await.unwrap(), clock, recorder }
    }
}

#[async_trait]
impl ServerHarness for Memory {
    fn client_for(&self, namespace: Name) -> Client {
        self.server.client_for(namespace)
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    async fn advance(&self, by: Duration) {
        tokio::time::sleep(by).await;
        // The server's timer woke at the same moment: let it go first.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
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

    async fn restart(&self) {
        self.server.take_back_orphans().await.unwrap();
    }
}

/// The SQLite store, on a clock that is stepped by hand.
#[cfg(feature = "sqlite")]
pub struct Sqlite {
    pub server: Server,
    pub clock: Arc<ManualClock>,
    recorder: Arc<Recorder>,
    path: PathBuf,
    /// The one that runs now, once `server` was restarted.
    restarted: Mutex<Option<Server>>,
    _folder: Option<tempfile::TempDir>,
}

#[cfg(feature = "sqlite")]
impl Sqlite {
    /// In a folder of its own that goes with it.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut started = Self::open(&folder.path().join("aiki.db"), Arc::default()).await;
        started._folder = Some(folder);
        started
    }

    pub async fn open(path: &Path, clock: Arc<ManualClock>) -> Self {
        let recorder = Arc::new(Recorder::default());
        let server = Self::serve(path, &clock, &recorder).await;
        Self { server, clock, recorder, path: path.into(), restarted: Mutex::default(), _folder: None }
    }

    async fn serve(path: &Path, clock: &Arc<ManualClock>, recorder: &Arc<Recorder>) -> Server {
        let server = Server::builder()
            .sqlite(path)
            .clock(clock.clone())
            .publisher(recorder.clone())
            .payload_limit(PAYLOAD_LIMIT)
            .history_limit(HISTORY_LIMIT);
        server.start().await.unwrap()
    }

    fn current(&self) -> Server {
        self.restarted.lock().unwrap().clone().unwrap_or_else(|| self.server.clone())
    }
}

#[cfg(feature = "sqlite")]
#[async_trait]
impl ServerHarness for Sqlite {
    fn client_for(&self, namespace: Name) -> Client {
        self.current().client_for(namespace)
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    async fn advance(&self, by: Duration) {
        self.clock.step(by);
        self.current().run_due_timers().await.unwrap();
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

    async fn restart(&self) {
        self.current().close().await;
        let server = Self::serve(&self.path, &self.clock, &self.recorder).await;
        *self.restarted.lock().unwrap() = Some(server);
    }
}

/// The Postgres store in a schema of its own, on a clock that is stepped by hand.
#[cfg(feature = "postgres")]
pub struct Postgres {
    pub schema: test_postgres::Schema,
    pub clock: Arc<ManualClock>,
    recorder: Arc<Recorder>,
    server: Mutex<Server>,
}

/// So seldom that it does not happen during a test.
#[cfg(feature = "postgres")]
pub const SELDOM: Duration = Duration::from_secs(3_600);

/// A server on a schema.
#[cfg(feature = "postgres")]
pub fn on(schema: &test_postgres::Schema) -> aiki_server::ServerBuilder {
    let builder = Server::builder().postgres(&schema.url).postgres_schema(&schema.name);
    builder.payload_limit(PAYLOAD_LIMIT).history_limit(HISTORY_LIMIT)
}

#[cfg(feature = "postgres")]
impl Postgres {
    pub async fn start() -> Self {
        let (clock, recorder) = (Arc::<ManualClock>::default(), Arc::new(Recorder::default()));
        let schema = test_postgres::Schema::fresh().await;
        let server = Self::serve(&schema, &clock, &recorder).await;
        Self { schema, clock, recorder, server: Mutex::new(server) }
    }

    async fn serve(schema: &test_postgres::Schema, clock: &Arc<ManualClock>, recorder: &Arc<Recorder>) -> Server {
        let server = on(schema).clock(clock.clone()).publisher(recorder.clone()).look_every(SELDOM);
        server.start().await.unwrap()
    }

    pub fn current(&self) -> Server {
        self.server.lock().unwrap().clone()
    }
}

#[cfg(feature = "postgres")]
#[async_trait]
impl ServerHarness for Postgres {
    fn client_for(&self, namespace: Name) -> Client {
        self.current().client_for(namespace)
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    async fn advance(&self, by: Duration) {
        self.clock.step(by);
        self.current().run_due_timers().await.unwrap();
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

    async fn restart(&self) {
        self.current().close().await;
        let server = Self::serve(&self.schema, &self.clock, &self.recorder).await;
        server.take_back_orphans().await.unwrap();
        *self.server.lock().unwrap() = server;
    }
}
