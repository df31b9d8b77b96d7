//! One error for programs that do not care which part said no.

use aiki_core::{ScheduleError, SendEventError, ServerError, StartError};
use aiki_worker::{ConfigError, WorkerError};

/// Anything that can go wrong outside of handlers.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A worker's configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A worker could not start.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// A run could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// An event could not be sent.
    #[error(transparent)]
    SendEvent(#[from] SendEventError),
    /// A schedule could not be made or changed.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// The server said no, or could not be asked.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// A client's configuration cannot be used.
    #[cfg(any(feature = "http", feature = "redis"))]
    #[error(transparent)]
    ClientConfig(#[from] aiki_client::ConfigError),
    /// There is no client of a server elsewhere.
    #[cfg(feature = "http")]
    #[error(transparent)]
    Connect(#[from] crate::ConnectError),
    /// The address of the Redis cannot be used.
    #[cfg(feature = "redis")]
    #[error(transparent)]
    RedisUrl(#[from] crate::redis::RedisUrlError),
    /// The embedded server could not start.
    #[cfg(feature = "embedded")]
    #[error(transparent)]
    ServerStart(#[from] aiki_server::ServerStartError),
}

aiki_core::debug_as_display!(Error);
