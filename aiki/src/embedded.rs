//! Server and memory subscriber in this process.

use std::path::PathBuf;
use std::sync::Arc;

use aiki_core::{Client, Clock, Name};
use aiki_runtime::Entropy;
use aiki_server::ServerStartError;
use aiki_subscriber_memory::{MemoryQueue, MemoryQueueConfig};

use crate::SubscriberTypes;
use crate::subscribers::fixed_options;

/// The orchestrator inside this process, with the memory queue that announces its runs.
///
/// Cloning is cheap; all clones are one server. Runs survive the process when the server has a file.
#[derive(Clone, Debug)]
pub struct Server {
    inner: aiki_server::Server,
    queue: MemoryQueue,
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
        let queue = MemoryQueue::new();
        ServerBuilder { inner: aiki_server::Server::builder().publisher(Arc::new(queue.clone())), queue }
    }

    /// A client of this server, for the default namespace.
    pub fn client(&self) -> Client {
        self.inner.client()
    }

    /// A client of this server for another tenant.
    pub fn client_for(&self, namespace: impl Into<Name>) -> Client {
        self.inner.client_for(namespace.into())
    }

    /// What workers in this process subscribe to.
    pub fn subscriber(&self) -> MemoryQueue {
        self.queue.clone()
    }

    /// The subscriber types that a worker's configuration may name here: `memory` and `http`.
    pub fn subscriber_types(&self) -> SubscriberTypes {
        SubscriberTypes::new().with("memory", {
            let queue = self.queue.clone();
            move |subscriber| {
                let MemoryQueueConfig { claim_min_idle_time, block_time, .. } = MemoryQueueConfig::default();
                fixed_options(subscriber, &[("claimMinIdleTimeMs", claim_min_idle_time), ("blockTimeMs", block_time)])?;
                Ok(Arc::new(queue.clone()))
            }
        })
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
    queue: MemoryQueue,
}

impl ServerBuilder {
    /// Keeps runs in a SQLite file: a path, or a `sqlite://` address.
    pub fn sqlite(mut self, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let path = path.to_str().and_then(|text| text.strip_prefix("sqlite://")).map(PathBuf::from).unwrap_or(path);
        self.inner = self.inner.sqlite(path);
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

    /// Starts the server.
    ///
    /// # Errors
    /// As [`Server::embedded`].
    pub async fn start(self) -> Result<Server, ServerStartError> {
        Ok(Server { inner: self.inner.start().await?, queue: self.queue })
    }
}
