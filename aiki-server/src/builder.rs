//! Starting a server.

use std::fmt;
#[cfg(feature = "sqlite")]
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aiki_core::payload::DEFAULT_PAYLOAD_LIMIT;
#[cfg(feature = "http")]
use aiki_core::run::plan::plain::PLAIN_LEASE;
use aiki_core::{Clock, Publisher};
use aiki_runtime::{Entropy, SystemClock, SystemEntropy};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::announcer::Announcer;
use crate::effects::Effects;
use crate::lane::{Lane, LaneHandle};
use crate::orphans;
use crate::presence::{self, Presences};
use crate::readers::Readers;
use crate::retention::Retention;
use crate::server::{Inner, Server};
use crate::start_error::ServerStartError;
use crate::storage::kept::KeptMemory;
use crate::storage::memory::MemoryStorage;
use crate::timer::Timer;
use crate::workers::Workers;

enum StoreChoice {
    Memory,
    Kept(KeptMemory),
    #[cfg(feature = "sqlite")]
    Sqlite(crate::storage::sqlite::Options),
    #[cfg(feature = "postgres")]
    Postgres(crate::storage::postgres::Options),
}

/// How often a server looks into a store that it shares for what is due: so late is a timer at most whose server is gone.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Entries that a history may have unless told otherwise.
const DEFAULT_HISTORY_LIMIT: u32 = 50_000;

/// Configures and starts a [`Server`].
#[must_use = "a server runs once it is started"]
pub struct ServerBuilder {
    store: StoreChoice,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    publisher: Option<Arc<dyn Publisher>>,
    payload_limit: usize,
    history_limit: u32,
    retention: Option<Duration>,
    #[cfg(feature = "http")]
    plain_lease: Duration,
    look_every: Duration,
    disconnect_grace: Duration,
    #[cfg(feature = "sqlite")]
    in_line: bool,
}

impl ServerBuilder {
    pub(crate) fn new() -> Self {
        Self {
            store: StoreChoice::Memory,
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            publisher: None,
            payload_limit: DEFAULT_PAYLOAD_LIMIT,
            history_limit: DEFAULT_HISTORY_LIMIT,
            retention: None,
            #[cfg(feature = "http")]
            plain_lease: PLAIN_LEASE,
            look_every: LOOK_EVERY,
            disconnect_grace: presence::GRACE,
            #[cfg(feature = "sqlite")]
            in_line: false,
        }
    }

    /// Keeps the runs in this program's memory: they are gone when it ends. The default.
    pub fn memory(mut self) -> Self {
        self.store = StoreChoice::Memory;
        self
    }

    /// Keeps the runs in a memory that outlives the server. For simulations of a server that is restarted.
    #[doc(hidden)]
    pub fn kept_memory(mut self, memory: &KeptMemory) -> Self {
        self.store = StoreChoice::Kept(memory.clone());
        self
    }

    /// Keeps the runs in a SQLite database. The file is created when it is not there; its folder must
    /// be. Only one server at a time may have it open; the lock is a file of the same name plus
    /// `.lock`. An acknowledged request survives a crash and a power cut.
    ///
    /// A plain path: `:memory:`, `file:` and `sqlite:` addresses and options behind a `?` are refused at
    /// the start.
    #[cfg(feature = "sqlite")]
    pub fn sqlite(mut self, path: impl Into<PathBuf>) -> Self {
        self.store = StoreChoice::Sqlite(crate::storage::sqlite::Options { path: path.into(), page_limit: None });
        self
    }

    /// Keeps the runs in a Postgres database, 15 or later, which any number of servers may share. The address looks
    /// like `postgres://user:secret@host:5432/database`; `?sslmode=require` asks for encryption with a certificate that
    /// this system trusts (`SSL_CERT_FILE` names further authorities), without it there is none. The tables are made in
    /// a schema of their own, `aiki` unless [told otherwise](Self::postgres_schema). An acknowledged request survives
    /// a crash as far as the database is set up for it (`synchronous_commit` is on).
    ///
    /// The connections must be to Postgres itself, or to a pooler in session mode. Each server makes up to six. The
    /// servers' clocks must agree to well within a lease. When the database is away, requests answer
    /// [`Unavailable`](aiki_core::ServerError::Unavailable) until it is back.
    #[cfg(feature = "postgres")]
    pub fn postgres(mut self, url: impl Into<String>) -> Self {
        self.store = StoreChoice::Postgres(crate::storage::postgres::Options { url: url.into(), schema: None });
        self
    }

    /// The schema of the tables in the Postgres database: 1 to 40 of `a-z`, `0-9` and `_`. Call it after
    /// [`postgres`](Self::postgres).
    #[cfg(feature = "postgres")]
    pub fn postgres_schema(mut self, schema: impl Into<String>) -> Self {
        if let StoreChoice::Postgres(options) = &mut self.store {
            options.schema = Some(schema.into());
        }
        self
    }

    /// How often the server looks into a store that it shares, instead of every second. For tests with a clock that is
    /// stepped by hand.
    #[doc(hidden)]
    pub fn look_every(mut self, every: Duration) -> Self {
        self.look_every = every;
        self
    }

    /// Opens and uses the SQLite database in the caller's own time, without a thread. For simulations in one thread.
    #[cfg(feature = "sqlite")]
    #[doc(hidden)]
    pub fn in_line(mut self) -> Self {
        self.in_line = true;
        self
    }

    /// Limits the database file to this many pages, read before every commit; 0 is no limit. For
    /// tests of a full disk.
    #[cfg(feature = "sqlite")]
    #[doc(hidden)]
    pub fn page_limit(mut self, limit: Arc<std::sync::atomic::AtomicU32>) -> Self {
        if let StoreChoice::Sqlite(options) = &mut self.store {
            options.page_limit = Some(limit);
        }
        self
    }

    /// Tells the time. The system's clock unless given.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Gives chance, for the ids of runs. The system's unless given.
    pub fn entropy(mut self, entropy: Arc<dyn Entropy>) -> Self {
        self.entropy = entropy;
        self
    }

    /// Announces ready runs to workers. Without one, workers have to ask for ready runs; with one, they
    /// may still ask, and get what could not be announced at once and the rest after a second.
    pub fn publisher(mut self, publisher: Arc<dyn Publisher>) -> Self {
        self.publisher = Some(publisher);
        self
    }

    /// The largest input or output of a run or task, in bytes of JSON. 1 MB unless given.
    pub fn payload_limit(mut self, bytes: usize) -> Self {
        self.payload_limit = bytes;
        self
    }

    /// How many entries the history of a run may have before the run fails, since it was created or last
    /// [continued as new](aiki_core::Run::continue_as_new). Its worker warns from 80 % on. 50,000 unless
    /// given; every task takes two entries, and a replay reads them all.
    pub fn history_limit(mut self, entries: u32) -> Self {
        self.history_limit = entries;
        self
    }

    /// How long a run that a worker of the plain contract was told of, or works on, is its own without a
    /// sign of life. 90 s unless given.
    #[cfg(feature = "http")]
    pub fn plain_lease(mut self, lease: Duration) -> Self {
        self.plain_lease = lease;
        self
    }

    /// How long a worker whose connection broke has to come back before its runs are given to others: whoever dies
    /// breaks its connections at once, so nobody has to wait for its leases. 400 ms unless given; zero means that leases
    /// alone decide. A worker that lives behind a line that broke loses its claims like one whose leases lapsed. When
    /// the connections of all of several workers break at the same moment, leases decide.
    #[cfg(feature = "http")]
    pub fn disconnect_grace(mut self, grace: Duration) -> Self {
        self.disconnect_grace = grace;
        self
    }

    /// Forgets runs so long after they have ended, with their histories. For ever unless given.
    ///
    /// A child stays for as long as its parent goes on. The reference id of a forgotten run is free: a start under it
    /// makes a new run. Schedules go on; what they have done is counted on. Whoever asks for a forgotten run is told
    /// that there is none, so keep runs for longer than anybody waits for their results.
    ///
    /// Runs leave in the background, a hundred at a time, when few requests queue: up to a minute after their time,
    /// later under load.
    pub fn retention(mut self, keep: Duration) -> Self {
        self.retention = Some(keep);
        self
    }

    /// Opens the store and starts the server's timers and announcements on the current tokio runtime.
    /// What was queued when the server last stopped is announced at once.
    ///
    /// Cancel safety: when the future is dropped, what was started is stopped and the store is free again,
    /// at the latest once the file that was being opened is open.
    ///
    /// # Errors
    /// [`ServerStartError`] when the store cannot be used.
    ///
    /// # Panics
    /// Outside of a tokio runtime with its timer enabled.
    pub async fn start(self) -> Result<Server, ServerStartError> {
        let runtime = Handle::current();
        let shared = self.store.is_shared();
        let effects = Arc::new(Effects {
            server: SystemEntropy.next_u64(),
            announcer: self.publisher.is_some().then(Arc::default),
            doubt: Arc::default(),
            seekers: Arc::default(),
            timer: Arc::new(Timer::new(shared.then_some(self.look_every))),
            watchers: Arc::default(),
            workers: Arc::new(if shared { Workers::shared() } else { Workers::default() }),
        });
        #[cfg(feature = "postgres")]
        let mut peers = None;
        let (clock, entropy) = (Arc::clone(&self.clock), self.entropy);
        let (lane, readers) = match self.store {
            StoreChoice::Memory => {
                let lane = Lane::new(Box::new(MemoryStorage::default()), clock, entropy, Arc::clone(&effects));
                inline(lane.map_err(ServerStartError::store)?)
            }
            StoreChoice::Kept(memory) => {
                let storage = memory.lend().ok_or_else(|| ServerStartError::Store("another server has it".into()))?;
                let lane = Lane::new(Box::new(storage), clock, entropy, Arc::clone(&effects));
                inline(lane.map_err(ServerStartError::store)?)
            }
            #[cfg(feature = "sqlite")]
            StoreChoice::Sqlite(options) if self.in_line => {
                let (storage, _) = crate::storage::sqlite::open(options)?;
                inline(Lane::new(storage, clock, entropy, Arc::clone(&effects)).map_err(ServerStartError::store)?)
            }
            #[cfg(feature = "sqlite")]
            StoreChoice::Sqlite(options) => {
                let (storage, connections) = open_sqlite(&runtime, options).await?;
                let lane = Lane::new(storage, clock, entropy, Arc::clone(&effects)).map_err(ServerStartError::store)?;
                let pool = crate::readers::Pool::new(connections, runtime.clone());
                (LaneHandle::on_thread(lane).map_err(ServerStartError::Thread)?, Readers::Pool(Arc::new(pool)))
            }
            #[cfg(feature = "postgres")]
            StoreChoice::Postgres(options) => {
                let opened = open_postgres(&runtime, options).await?;
                let own = Arc::clone(&effects);
                // It asks the store, which may block.
                let lane = runtime.spawn_blocking(move || Lane::new(opened.storage, clock, entropy, own)).await;
                let lane = lane.map_err(|error| ServerStartError::Store(error.to_string()))?;
                let lane = lane.map_err(ServerStartError::store)?;
                let pool = crate::readers::Pool::new(opened.readers, runtime.clone());
                peers = Some(opened.peers);
                (LaneHandle::on_thread(lane).map_err(ServerStartError::Thread)?, Readers::Pool(Arc::new(pool)))
            }
        };
        #[cfg(feature = "postgres")]
        let (presences, questions) = Presences::for_store(self.disconnect_grace, shared);
        #[cfg(not(feature = "postgres"))]
        let presences = Presences::new(self.disconnect_grace);
        // From here on the parts have an owner that stops them when this future is dropped.
        let inner = Inner {
            lane,
            readers,
            clock: self.clock,
            timer: Arc::clone(&effects.timer),
            seekers: Arc::clone(&effects.seekers),
            watchers: Arc::clone(&effects.watchers),
            workers: Arc::clone(&effects.workers),
            presences: Arc::new(presences),
            announcer: effects.announcer.clone(),
            payload_limit: self.payload_limit,
            history_limit: self.history_limit,
            retention: self.retention.map(|keep| Arc::new(Retention::new(keep))),
            draining: watch::Sender::new(false),
            #[cfg(feature = "http")]
            plain_lease: self.plain_lease,
            #[cfg(feature = "http")]
            looks: Default::default(),
            closed: watch::Sender::new(false),
            daemons: Mutex::default(),
        };
        let (lane, readers) = (&inner.lane, &inner.readers);
        if let (Some(announcer), Some(publisher)) = (&effects.announcer, self.publisher) {
            // Where others announce as well, what is not announced for a while is due, and whoever comes first does it.
            let more = if shared { None } else { announcer.preload(readers).await };
            inner.keep(runtime.spawn(Announcer::run(Arc::clone(announcer), publisher, readers.clone(), more)));
        }
        // Where others serve as well, a claim may be that of a worker of theirs.
        let orphans = if shared { Ok(0) } else { orphans::take_back(readers, lane).await };
        match orphans {
            Ok(0) => {}
            Ok(runs) => tracing::info!(runs, "took back runs that workers of the last process held"),
            Err(error) => tracing::warn!(%error, "runs of the last process stay claimed until their leases lapse"),
        }
        #[cfg(feature = "postgres")]
        if let Some(link) = peers {
            let peers = crate::peers::Peers {
                id: effects.server,
                clock: Arc::clone(&inner.clock),
                readers: readers.clone(),
                watchers: Arc::clone(&effects.watchers),
                workers: Arc::clone(&effects.workers),
                presences: Arc::clone(&inner.presences),
                questions,
                timer: Arc::clone(&effects.timer),
                doubt: Arc::clone(&effects.doubt),
            };
            // From the first request on it hears of the others.
            let first = link.connect().await.map_err(ServerStartError::store)?;
            inner.keep(runtime.spawn(peers.run(link, Some(first))));
        }
        inner.keep(runtime.spawn(Arc::clone(&effects.timer).run(Arc::clone(&inner.clock), lane.clone())));
        if let Some(retention) = &inner.retention {
            let (clock, readers) = (Arc::clone(&inner.clock), readers.clone());
            inner.keep(runtime.spawn(Arc::clone(retention).run(clock, readers, lane.clone())));
        }
        Ok(Server::new(Arc::new(inner)))
    }
}

/// A lane without a thread, and the way to read from its store.
fn inline(lane: Lane) -> (LaneHandle, Readers) {
    let lane = Arc::new(Mutex::new(Some(lane)));
    (LaneHandle::Inline(Arc::clone(&lane)), Readers::Inline(lane))
}

#[cfg(feature = "sqlite")]
async fn open_sqlite(
    runtime: &Handle,
    options: crate::storage::sqlite::Options,
) -> Result<crate::storage::sqlite::Opened, ServerStartError> {
    let path = options.path.clone();
    let opened = runtime.spawn_blocking(move || crate::storage::sqlite::open(options)).await;
    opened.unwrap_or_else(|error| Err(ServerStartError::File { path, reason: error.to_string() }))
}

#[cfg(feature = "postgres")]
async fn open_postgres(
    runtime: &Handle,
    options: crate::storage::postgres::Options,
) -> Result<crate::storage::postgres::Opened, ServerStartError> {
    let opened = runtime.spawn_blocking(move || crate::storage::postgres::open(&options)).await;
    opened.unwrap_or_else(|error| Err(ServerStartError::Store(error.to_string())))
}

impl StoreChoice {
    /// Whether other servers may use it as well.
    fn is_shared(&self) -> bool {
        match self {
            StoreChoice::Memory | StoreChoice::Kept(_) => false,
            #[cfg(feature = "sqlite")]
            StoreChoice::Sqlite(_) => false,
            #[cfg(feature = "postgres")]
            StoreChoice::Postgres(_) => true,
        }
    }
}

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder").field("payload_limit", &self.payload_limit).finish_non_exhaustive()
    }
}
