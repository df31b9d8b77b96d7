//! Where Redis is, and how to be let in. A secret: it never appears in logs or errors.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use fred::types::config::{Config, ServerConfig};
use serde::Deserialize;

use crate::classify::Failure;
use crate::place::Node;
use crate::tls::Tls;

/// The port when none is given.
const DEFAULT_PORT: u16 = 6379;

/// A Redis address that cannot be used. The text never repeats the address: it may hold a password.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedisUrlError {
    /// Not `redis://` or `rediss://`.
    #[error("the Redis URL must begin with redis:// or rediss://")]
    Scheme,
    /// There is no host in it.
    #[error("the Redis URL has no host")]
    Host,
    /// The port is not a number from 1 to 65535.
    #[error("the Redis URL's port must be a number from 1 to 65535")]
    Port,
    /// The path is not a database number.
    #[error("the Redis URL's path must be a database number from 0 to 255, as in redis://host:6379/0")]
    Database,
    /// A `%` in the user or the password is not followed by two hex digits.
    #[error("the Redis URL's user or password has a % that is not followed by two hex digits: write %25")]
    Encoding,
    /// A certificate authority was configured, but no TLS.
    #[error("caFile is given without TLS: write rediss:// or tls: true")]
    CaWithoutTls,
    /// Both a URL and its parts were configured.
    #[error("give either the Redis url, or host, port, username, password, db and tls; caFile goes with both")]
    Both,
}

aiki_core::debug_as_display!(RedisUrlError);

/// The address of a Redis, with its credentials: `redis://[user:password@]host[:port][/db]`, or
/// `rediss://` for TLS with the system's certificates. Characters of user and password other than letters
/// and digits are percent-encoded. `Debug` and `Display` leave the secrets out.
///
/// In configuration it is `{"url": "redis://..."}` or `{"host": "...", "port": 6379, "password": "...", "db": 0}`,
/// each with `"caFile"` for a certificate authority of one's own.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Parts")]
pub struct RedisUrl {
    host: String,
    port: u16,
    username: Option<String>,
    password: Option<String>,
    database: u8,
    tls: Tls,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Parts {
    url: Option<String>,
    host: Option<String>,
    port: Option<u16>,
    username: Option<String>,
    password: Option<String>,
    db: Option<u8>,
    tls: Option<bool>,
    ca_file: Option<PathBuf>,
}

impl RedisUrl {
    /// A Redis without credentials, database 0, no TLS.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port, username: None, password: None, database: 0, tls: Tls::Off }
    }

    /// The password, and the ACL user if it is not the default one.
    pub fn credentials(mut self, username: Option<String>, password: impl Into<String>) -> Self {
        self.username = username;
        self.password = Some(password.into());
        self
    }

    /// The database number.
    pub fn database(mut self, database: u8) -> Self {
        self.database = database;
        self
    }

    /// Whether to use TLS, with the system's certificates.
    pub fn tls(mut self, tls: bool) -> Self {
        self.tls = if tls { Tls::System } else { Tls::Off };
        self
    }

    /// Uses TLS and trusts only who the certificates of this PEM file have signed. It is read with each attempt to
    /// connect.
    pub fn certificate_authority(mut self, pem_file: impl Into<PathBuf>) -> Self {
        self.tls = Tls::Authority(pem_file.into());
        self
    }

    /// The server that it names.
    pub(crate) fn node(&self) -> Node {
        Node { host: self.host.clone(), port: self.port }
    }

    /// As fred wants it, for this server. Its `Debug` shows the password: it goes nowhere but into a client.
    pub(crate) fn to_config(&self, node: &Node) -> Result<Config, Failure> {
        let tls = self.tls.to_config()?;
        Ok(Config {
            server: ServerConfig::new_centralized(node.host.as_str(), node.port),
            username: self.username.clone(),
            password: self.password.clone(),
            database: Some(self.database),
            tls,
            ..Config::default()
        })
    }
}

impl FromStr for RedisUrl {
    type Err = RedisUrlError;

    fn from_str(text: &str) -> Result<Self, RedisUrlError> {
        let (tls, rest) = match (text.strip_prefix("redis://"), text.strip_prefix("rediss://")) {
            (Some(rest), _) => (Tls::Off, rest),
            (None, Some(rest)) => (Tls::System, rest),
            (None, None) => return Err(RedisUrlError::Scheme),
        };
        let (credentials, rest) = rest.rsplit_once('@').map_or((None, rest), |(before, after)| (Some(before), after));
        let (address, path) = rest.split_once('/').unwrap_or((rest, ""));
        let database = if path.is_empty() { 0 } else { path.parse().map_err(|_| RedisUrlError::Database)? };
        let (host, port) = split_address(address)?;
        let (username, password) = match credentials {
            None => (None, None),
            Some(text) => {
                let (user, password) = text.split_once(':').unwrap_or((text, ""));
                (decode(user)?, decode(password)?)
            }
        };
        Ok(Self { host, port, username, password, database, tls })
    }
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`.
fn split_address(address: &str) -> Result<(String, u16), RedisUrlError> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or(RedisUrlError::Host)?;
            (host, after.strip_prefix(':'))
        }
        None => address.split_once(':').map_or((address, None), |(host, port)| (host, Some(port))),
    };
    if host.is_empty() {
        return Err(RedisUrlError::Host);
    }
    let port = port.map_or(Ok(DEFAULT_PORT), |port| port.parse().map_err(|_| RedisUrlError::Port))?;
    if port == 0 { Err(RedisUrlError::Port) } else { Ok((host.to_owned(), port)) }
}

/// Percent-decodes; an empty text is none.
fn decode(text: &str) -> Result<Option<String>, RedisUrlError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next())) else {
            return Err(RedisUrlError::Encoding);
        };
        bytes.push((high * 16 + low) as u8);
    }
    let text = String::from_utf8(bytes).map_err(|_| RedisUrlError::Encoding)?;
    Ok(Some(text).filter(|text| !text.is_empty()))
}

impl TryFrom<Parts> for RedisUrl {
    type Error = RedisUrlError;

    fn try_from(parts: Parts) -> Result<Self, RedisUrlError> {
        let ca_file = parts.ca_file.clone();
        let url = match parts {
            Parts {
                url: Some(url),
                host: None,
                port: None,
                username: None,
                password: None,
                db: None,
                tls: None,
                ..
            } => url.parse()?,
            Parts { url: Some(_), .. } => return Err(RedisUrlError::Both),
            Parts { host: None, .. } => return Err(RedisUrlError::Host),
            Parts { host: Some(host), port, username, password, db, tls, .. } => Self {
                username,
                password,
                database: db.unwrap_or_default(),
                ..Self::new(host, port.unwrap_or(DEFAULT_PORT)).tls(tls.unwrap_or_default())
            },
        };
        match ca_file {
            None => Ok(url),
            Some(_) if url.tls == Tls::Off => Err(RedisUrlError::CaWithoutTls),
            Some(file) => Ok(url.certificate_authority(file)),
        }
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls == Tls::Off { "redis" } else { "rediss" };
        let secret = if self.username.is_some() || self.password.is_some() { "***@" } else { "" };
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{scheme}://{secret}{open}{}{close}:{}/{}", self.host, self.port, self.database)
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_shown_nowhere() {
        let url: RedisUrl = "rediss://worker:p%40ss%3Aword@cache.internal:6390/3".parse().unwrap();
        assert_eq!(url.username.as_deref(), Some("worker"));
        assert_eq!(url.password.as_deref(), Some("p@ss:word"));
        for shown in [format!("{url}"), format!("{url:?}"), format!("{:?}", Some(&url))] {
            assert!(!shown.contains("p@ss") && !shown.contains("p%40ss") && !shown.contains("worker"), "{shown}");
            assert!(shown.contains("rediss://***@cache.internal:6390/3"), "{shown}");
        }
        for bad in ["redis://u:hunter2@", "http://u:hunter2@h", "redis://u:hunter2@h:x", "redis://u:hunter2%@h/"] {
            let error = bad.parse::<RedisUrl>().unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"));
        }
        let error = serde_json::from_str::<RedisUrl>(r#"{"url":"http://u:hunter2@h"}"#).unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }

    #[test]
    fn all_forms_are_understood() {
        let parse = |text: &str| text.parse::<RedisUrl>();
        assert_eq!(parse("redis://localhost").unwrap(), RedisUrl::new("localhost", 6379));
        assert_eq!(parse("redis://[::1]:7000/").unwrap(), RedisUrl::new("::1", 7000));
        let secret = RedisUrl::new("h", 1).credentials(None, "secret").database(2);
        assert_eq!(parse("redis://:secret@h:1/2").unwrap(), secret);
        let parts: RedisUrl = serde_json::from_str(r#"{"host":"h","port":1,"password":"secret","db":2}"#).unwrap();
        assert_eq!(parts, secret);
        assert_eq!(parse("redis://h:0"), Err(RedisUrlError::Port));
        assert_eq!(parse("redis://h/x"), Err(RedisUrlError::Database));
        assert_eq!(parse("redis://"), Err(RedisUrlError::Host));
        assert!(serde_json::from_str::<RedisUrl>(r#"{"url":"redis://h","db":1}"#).is_err());
        assert!(serde_json::from_str::<RedisUrl>(r#"{"hots":"h"}"#).is_err());
        let own = RedisUrl::new("h", 6379).certificate_authority("/ca.pem");
        let given = |text| serde_json::from_str::<RedisUrl>(text);
        assert_eq!(given(r#"{"url":"rediss://h","caFile":"/ca.pem"}"#).unwrap(), own);
        assert_eq!(given(r#"{"host":"h","tls":true,"caFile":"/ca.pem"}"#).unwrap(), own);
        assert!(given(r#"{"host":"h","caFile":"/ca.pem"}"#).is_err());
    }
}
