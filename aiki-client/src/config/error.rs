//! Why a configuration is refused.

use std::path::PathBuf;

/// A configuration that cannot be used.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// `url` is empty.
    #[error("`url` is empty: give the server's address, such as localhost:9090")]
    EmptyUrl,
    /// `url` has a scheme that is not HTTP.
    #[error("`url` has the scheme `{0}`: use http, https, or none")]
    Scheme(String),
    /// `url` cannot be read.
    #[error("`url` is `{url}`, which is no address ({reason}): give host and port, such as localhost:9090")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// `url` carries a user or a password.
    #[error("`url` carries a user or a password: give the key as `apiKey`")]
    Credentials,
    /// The certificates cannot be used.
    #[error("`caFile` {} cannot be used ({reason}): give a file of certificates in PEM form, and an https url", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The key cannot be sent.
    #[error("`apiKey` has characters that cannot be sent: give it as it was created, without line breaks")]
    ApiKey,
    /// The text is not JSON or TOML of the documented shape.
    #[error("the client's configuration cannot be read: {0}")]
    Format(String),
    /// The file cannot be used.
    #[error("the client's configuration in {}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// The client cannot be made.
    #[error("the client cannot be made: {0}")]
    Client(String),
}

aiki_core::debug_as_display!(ConfigError);
