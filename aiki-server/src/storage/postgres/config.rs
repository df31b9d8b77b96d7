//! What an address means, and what is wrong with it.

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Config, Error};
use tokio_postgres_rustls::MakeRustlsConnect as Tls;

use super::{ANSWER_LIMIT, CONNECT_LIMIT, describe};
use crate::start_error::ServerStartError;

/// The schema of the tables unless told otherwise.
const SCHEMA: &str = "aiki";
/// The longest name of a schema, so that the channel's fits as well.
const LONGEST_SCHEMA: usize = 40;
/// A connection on which nothing comes is asked for a sign of life after this time.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// Which database, as the builder was told.
#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) url: String,
    pub(crate) schema: Option<String>,
}

/// A database that can be connected to.
pub(crate) struct Target {
    pub(super) config: Config,
    pub(super) schema: String,
    /// Host, port and database: without the secret.
    pub(super) place: String,
    pub(super) tls: Option<Tls>,
}

impl Target {
    pub(crate) fn new(options: &Options) -> Result<Self, ServerStartError> {
        let mut config: Config = options.url.parse().map_err(|error| unusable(&options.url, &error))?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(ServerStartError::PostgresUrl { reason: "it names no host".into() });
        }
        // The parser ends the secret at its first `@` and takes the rest of it for the host.
        if config.get_hosts().iter().any(|host| matches!(host, Host::Tcp(host) if host.contains('@'))) {
            let reason = "in the user and the secret, write %40 for each @".into();
            return Err(ServerStartError::PostgresUrl { reason });
        }
        let schema = options.schema.clone().unwrap_or_else(|| SCHEMA.to_owned());
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if schema.is_empty() || schema.len() > LONGEST_SCHEMA || !schema.bytes().all(plain) || schema.starts_with("pg_")
        {
            let reason = format!("`{schema}` cannot be a schema: use 1 to {LONGEST_SCHEMA} of a-z, 0-9 and _");
            return Err(ServerStartError::PostgresUrl { reason });
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_LIMIT);
        }
        if config.get_application_name().is_none() {
            config.application_name("aiki");
        }
        config.keepalives_idle(KEEPALIVE).tcp_user_timeout(ANSWER_LIMIT);
        let tls = match config.get_ssl_mode() {
            SslMode::Require => Some(tls()?),
            _ => None,
        };
        let place = place(&config);
        Ok(Self { config, schema, place, tls })
    }

    /// Why the server cannot start.
    pub(crate) fn refused(&self, error: &Error) -> ServerStartError {
        let (place, reason) = (self.place.clone(), describe(error));
        match error.code() {
            Some(&SqlState::INVALID_PASSWORD | &SqlState::INVALID_AUTHORIZATION_SPECIFICATION) => {
                ServerStartError::PostgresLogin { place, reason }
            }
            Some(&SqlState::INVALID_CATALOG_NAME) => ServerStartError::PostgresNoDatabase { place },
            Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                ServerStartError::PostgresRights { place, schema: self.schema.clone(), reason }
            }
            // Its own complaint, such as a password that is missing.
            None if error.to_string().starts_with("invalid configuration") => {
                ServerStartError::PostgresLogin { place, reason }
            }
            _ => ServerStartError::PostgresUnreachable { place, reason },
        }
    }
}

impl Target {
    /// Nothing answers there.
    pub(super) fn silent(&self) -> ServerStartError {
        let reason = format!("no connection within {CONNECT_LIMIT:?}");
        ServerStartError::PostgresUnreachable { place: self.place.clone(), reason }
    }
}

fn place(config: &Config) -> String {
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(host)) => host.clone(),
        #[cfg(unix)]
        Some(Host::Unix(path)) => path.display().to_string(),
        None => config.get_hostaddrs().first().map(ToString::to_string).unwrap_or_default(),
    };
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let database = config.get_dbname().or(config.get_user()).unwrap_or_default();
    format!("{host}:{port}/{database}")
}

/// Encryption with a server whose certificate the system trusts, for the name in the address.
fn tls() -> Result<Tls, ServerStartError> {
    let unusable = |error: &dyn std::fmt::Display| ServerStartError::PostgresTls { reason: error.to_string() };
    let found = rustls_native_certs::load_native_certs();
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(unusable(&"this system trusts no authority; name a file of theirs in SSL_CERT_FILE"));
    }
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let versions = rustls::ClientConfig::builder_with_provider(ring).with_safe_default_protocol_versions();
    let client = versions.map_err(|error| unusable(&error))?.with_root_certificates(roots).with_no_client_auth();
    Ok(Tls::new(client))
}

/// The parser's words, unless they repeat what is secret.
fn unusable(url: &str, error: &Error) -> ServerStartError {
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") && !url.contains('=') {
        return ServerStartError::PostgresUrl { reason: "it does not begin with postgres://".into() };
    }
    let source = std::error::Error::source(error).map(ToString::to_string);
    let reason = source.filter(|reason| !reason.contains('@')).unwrap_or_else(|| "it cannot be parsed".into());
    ServerStartError::PostgresUrl { reason }
}
