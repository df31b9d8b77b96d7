//! A client of a server elsewhere (feature `http`).

use aiki_client::{ClientConfig, HttpClient};
use aiki_core::{Client, ServerError};

/// Why there is no client.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] aiki_client::ConfigError),
    /// The server does not accept this client: the text says why, and what to do.
    #[error(transparent)]
    Refused(ServerError),
}

aiki_core::debug_as_display!(ConnectError);

/// A client of the server that the configuration names.
///
/// The server is asked whether it accepts the client. When it cannot be reached there is a warning and a client all
/// the same: calls answer [`ServerError::Unavailable`] until the server is there, and a worker waits for it.
///
/// ```no_run
/// use aiki::prelude::*;
/// use aiki::ClientConfig;
///
/// # async fn example() -> Result<(), aiki::Error> {
/// let client = aiki::connect(ClientConfig::new("localhost:9090")).await?;
/// let worker = Worker::builder(client).id("worker-1").build()?;
/// # let _ = worker;
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`ConnectError`] for what trying again cannot mend.
pub async fn connect(config: ClientConfig) -> Result<Client, ConnectError> {
    let url = config.url.clone();
    let client = HttpClient::connect(config)?;
    match client.check().await {
        Ok(()) => {}
        Err(error) if error.is_transient() => tracing::warn!(url, %error, "the server is not there yet"),
        Err(error) => return Err(ConnectError::Refused(error)),
    }
    Ok(Client::new(client))
}
