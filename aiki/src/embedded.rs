//! Server and queue in this process.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aiki_core::{Client, Clock, Name, SubscriberFactory};
use aiki_runtime::Entropy;
use aiki_server::ServerStartError;
use aiki_subscriber_memory::{MemoryQueue, MemoryQueueConfig};

use crate::SubscriberTypes;
#[cfg(feature = "redis")]
use crate::redis::{RedisPublisher, RedisStreams, RedisUrl};
use crate::subscribers::fixed_options;

/// Through what runs are announced.
#[derive(Clone, Debug)]
enum Queue {
    Memory(MemoryQueue),
    #[cfg(feature = "redis")]
    Redis(Box<(RedisUrl, RedisStreams)>),
}

/// The orchestrator inside this process, with the queue that announces its runs: in memory, or Redis
/// Streams (feature `redis`) for workers in other processes as well.
///
/// Cloning is cheap; all clones are one server. Runs survive the process when the server has a file.
#[derive(Clone, Debug)]
pub struct Server {
    inner: aiki_server::Server,
    queue: Queue,
}

impl Server {
    /// A server whose runs live in a SQLite file, made if it is missing. A path, or a
    /// `sqlite://` address. Every commit is durable before it is acknowledged.
    ///
    /// # Errors
    /// [`ServerStartError`] when the file is another program's, is in use by another process, or
    /// cannot be written.
    pub async fn embedded(path: impl Into<PathBuf>) -> Result<Self, ServerStartError> {
        Self::builder().sqlite(path).start().await
    }

    /// A server that forgets everything when it is dropped: for tests.
    ///
    /// # Errors
    /// [`ServerStartError`]; none is known for this store.
    pub async fn in_memory() -> Result<Self, ServerStartError> {
        Self::builder().start().await
    }

    /// A server with more to say about it.
    pub fn builder() -> ServerBuilder {
        ServerBuilder { inner: aiki_server::Server::builder(), queue: Queue::Memory(MemoryQueue::new()) }
    }

    /// A client of this server, for the default namespace.
    pub fn client(&self) -> Client {
        self.inner.client()
    }

    /// A client of this server for another tenant.
    pub fn client_for(&self, namespace: impl Into<Name>) -> Client {
        self.inner.client_for(namespace.into())
    }

    /// What workers of this server subscribe to, with default options.
    pub fn subscriber(&self) -> Arc<dyn SubscriberFactory> {
        match &self.queue {
            Queue::Memory(queue) => Arc::new(queue.clone()),
            #[cfg(feature = "redis")]
            Queue::Redis(redis) => Arc::new(redis.1.clone()),
        }
    }

    /// The subscriber types that a worker's configuration may name here: `http`, and `memory` or, for a
    /// server with Redis, `redis_streams`.
    pub fn subscriber_types(&self) -> SubscriberTypes {
        let types = SubscriberTypes::new();
        match &self.queue {
            Queue::Memory(queue) => types.with("memory", {
                let queue = queue.clone();
                move |subscriber| {
                    let MemoryQueueConfig { claim_min_idle_time, block_time, .. } = MemoryQueueConfig::default();
                    let fixed = [("claimMinIdleTimeMs", claim_min_idle_time), ("blockTimeMs", block_time)];
                    fixed_options(subscriber, &fixed)?;
                    Ok(Arc::new(queue.clone()))
                }
            }),
            #[cfg(feature = "redis")]
            Queue::Redis(redis) => types.redis(redis.1.clone()),
        }
    }

    /// All subscriptions over the server's Redis that were made here, to look at their health; `None` for a
    /// server without Redis.
    #[cfg(feature = "redis")]
    pub fn redis_streams(&self) -> Option<RedisStreams> {
        match &self.queue {
            Queue::Memory(_) => None,
            Queue::Redis(redis) => Some(redis.1.clone()),
        }
    }

    /// Ends the server: what was acknowledged is on disk, the file is free for another process.
    pub async fn close(&self) {
        self.inner.close().await;
    }
}

/// Builds an embedded server.
#[derive(Debug)]
pub struct ServerBuilder {
    inner: aiki_server::ServerBuilder,
    queue: Queue,
}

impl ServerBuilder {
    /// Keeps runs in a SQLite file: a path, or a `sqlite://` address.
    pub fn sqlite(mut self, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let path = path.to_str().and_then(|text| text.strip_prefix("sqlite://")).map(PathBuf::from).unwrap_or(path);
        self.inner = self.inner.sqlite(path);
        self
    }

    /// Announces runs through this Redis instead of in memory, so that workers in other processes may have
    /// them. While it is away, [workers](aiki_worker::BackupSubscribers) claim runs from the server itself.
    #[cfg(feature = "redis")]
    pub fn redis(mut self, url: RedisUrl) -> Self {
        self.queue = Queue::Redis(Box::new((url.clone(), RedisStreams::new(url))));
        self
    }

    /// Tells the time instead of the system's clock.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.inner = self.inner.clock(clock);
        self
    }

    /// Gives chance instead of the system's randomness.
    pub fn entropy(mut self, entropy: Arc<dyn Entropy>) -> Self {
        self.inner = self.inner.entropy(entropy);
        self
    }

    /// The largest payload that is stored, in bytes. Default: 1,000,000.
    pub fn payload_limit(mut self, bytes: usize) -> Self {
        self.inner = self.inner.payload_limit(bytes);
        self
    }

    /// How many entries a run's history may have before the run fails. Default: 50,000.
    pub fn history_limit(mut self, entries: u32) -> Self {
        self.inner = self.inner.history_limit(entries);
        self
    }

    /// Forgets runs so long after they have ended; see [`aiki_server::ServerBuilder::retention`]. Default: never.
    pub fn retention(mut self, keep: Duration) -> Self {
        self.inner = self.inner.retention(keep);
        self
    }

    /// Starts the server.
    ///
    /// # Errors
    /// As [`Server::embedded`].
    pub async fn start(self) -> Result<Server, ServerStartError> {
        let inner = match &self.queue {
            Queue::Memory(queue) => self.inner.publisher(Arc::new(queue.clone())),
            #[cfg(feature = "redis")]
            Queue::Redis(redis) => self.inner.publisher(Arc::new(RedisPublisher::new(redis.0.clone()))),
        };
        Ok(Server { inner: inner.start().await?, queue: self.queue })
    }
}
