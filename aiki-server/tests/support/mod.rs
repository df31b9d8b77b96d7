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
use aiki_server::{Server, ServerBuilder};
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

/// Where a server keeps its runs.
enum Place {
    #[cfg(feature = "sqlite")]
    Sqlite(PathBuf),
    #[cfg(feature = "postgres")]
    Postgres(test_postgres::Schema),
}

impl Place {
    fn builder(&self) -> ServerBuilder {
        match self {
            #[cfg(feature = "sqlite")]
            Place::Sqlite(path) => {
                Server::builder().sqlite(path).payload_limit(PAYLOAD_LIMIT).history_limit(HISTORY_LIMIT)
            }
            #[cfg(feature = "postgres")]
            Place::Postgres(schema) => on(schema).look_every(SELDOM),
        }
    }
}

/// A store that outlives its server, on a clock that is stepped by hand.
pub struct Kept {
    pub clock: Arc<ManualClock>,
    recorder: Arc<Recorder>,
    place: Place,
    /// The one that runs now.
    server: Mutex<Server>,
    _folder: Option<tempfile::TempDir>,
}

/// So seldom that it does not happen during a test.
#[cfg(feature = "postgres")]
pub const SELDOM: Duration = Duration::from_secs(3_600);

/// A server on a schema.
#[cfg(feature = "postgres")]
pub fn on(schema: &test_postgres::Schema) -> ServerBuilder {
    let builder = Server::builder().postgres(&schema.url).postgres_schema(&schema.name);
    builder.payload_limit(PAYLOAD_LIMIT).history_limit(HISTORY_LIMIT)
}

impl Kept {
    /// SQLite, in a folder of its own that goes with it.
    #[cfg(feature = "sqlite")]
    pub async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut started = Self::sqlite_at(&folder.path().join("aiki.db"), Arc::default()).await;
        started._folder = Some(folder);
        started
    }

    #[cfg(feature = "sqlite")]
    pub async fn sqlite_at(path: &Path, clock: Arc<ManualClock>) -> Self {
        Self::start(Place::Sqlite(path.into()), clock).await
    }

    /// Postgres, in a schema of its own.
    #[cfg(feature = "postgres")]
    pub async fn postgres() -> Self {
        Self::start(Place::Postgres(test_postgres::Schema::fresh().await), Arc::default()).await
    }

    async fn start(place: Place, clock: Arc<ManualClock>) -> Self {
        let recorder = Arc::new(Recorder::default());
        let server = Self::serve(&place, &clock, &recorder).await;
        Self { clock, recorder, place, server: Mutex::new(server), _folder: None }
    }

    async fn serve(place: &Place, clock: &Arc<ManualClock>, recorder: &Arc<Recorder>) -> Server {
        place.builder().clock(clock.clone()).publisher(recorder.clone()).start().await.unwrap()
    }

    pub fn server(&self) -> Server {
        self.server.lock().unwrap().clone()
    }
}

#[async_trait]
impl ServerHarness for Kept {
    fn client_for(&self, namespace: Name) -> Client {
        self.server().client_for(namespace)
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    async fn advance(&self, by: Duration) {
        self.clock.step(by);
        self.server().run_due_timers().await.unwrap();
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
        self.server().close().await;
        let server = Self::serve(&self.place, &self.clock, &self.recorder).await;
        // A store that others may use as well does it only when told; elsewhere there is nothing left to do.
        server.take_back_orphans().await.unwrap();
        *self.server.lock().unwrap() = server;
    }
}
