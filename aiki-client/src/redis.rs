//! How to reach Redis.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use crate::secret::Secret;

/// How to reach Redis: a URL, or its parts.
///
/// ```
/// use aiki_client::RedisConfig;
///
/// let parts: RedisConfig = serde_json::from_str(r#"{"host":"localhost","port":6379,"password":"hidden","db":0}"#)?;
/// let url: RedisConfig = serde_json::from_str(r#""rediss://worker:hidden@cache.internal/2""#)?;
/// let own: RedisConfig = serde_json::from_str(r#"{"url":"rediss://cache.internal","caFile":"ca.pem"}"#)?;
/// assert!(!format!("{parts:?} {url:?}").contains("hidden"));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisConfig {
    /// Where it is, and how to be let in.
    pub address: RedisAddress,
    /// Trusts only who the certificates of this PEM file have signed. Only with TLS.
    pub ca_file: Option<PathBuf>,
}

/// Where a Redis is, and how to be let in.
#[derive(Clone, PartialEq, Eq)]
pub enum RedisAddress {
    /// `redis://[user:password@]host[:port][/db]`, or `rediss://` for TLS.
    Url(Secret),
    /// The same in parts.
    Parts {
        /// The host.
        host: String,
        /// The port. 6379 unless given.
        port: u16,
        /// The user, when it is not the default one.
        username: Option<String>,
        /// The password.
        password: Option<Secret>,
        /// The number of the database. 0 unless given.
        db: u8,
        /// Whether to use TLS.
        tls: bool,
    },
}

impl fmt::Debug for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RedisAddress::Url(url) => write!(f, "{url:?}"),
            RedisAddress::Parts { host, port, db, .. } => write!(f, "{host}:{port}/{db}"),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Section {
    url: Option<Secret>,
    host: Option<String>,
    port: Option<u16>,
    username: Option<String>,
    password: Option<Secret>,
    db: Option<u8>,
    tls: Option<bool>,
    ca_file: Option<PathBuf>,
}

impl RedisConfig {
    /// A Redis by its URL.
    pub fn url(url: impl Into<String>) -> Self {
        Self { address: RedisAddress::Url(Secret::new(url)), ca_file: None }
    }
}

impl Section {
    fn check(self) -> Result<RedisConfig, &'static str> {
        let Section { url, host, port, username, password, db, tls, ca_file } = self;
        let parts = port.is_some() || username.is_some() || password.is_some() || db.is_some() || tls.is_some();
        let address = match (url, host) {
            (Some(url), None) if !parts => RedisAddress::Url(url),
            (Some(_), _) => return Err("give either `redis.url`, or `redis.host` with its port, password and so on"),
            (None, None) => return Err("`redis.host` is missing: give it, or `redis.url`"),
            (None, Some(_)) if username.is_some() && password.is_none() => {
                return Err("`redis.username` needs `redis.password`");
            }
            (None, Some(host)) => RedisAddress::Parts {
                host,
                port: port.unwrap_or(6379),
                username,
                password,
                db: db.unwrap_or_default(),
                tls: tls.unwrap_or_default(),
            },
        };
        Ok(RedisConfig { address, ca_file })
    }
}

impl<'de> Deserialize<'de> for RedisConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = RedisConfig;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a Redis URL, or a section with host, port, password and db")
            }
            fn visit_str<E: Error>(self, url: &str) -> Result<RedisConfig, E> {
                Ok(RedisConfig::url(url))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RedisConfig, A::Error> {
                Section::deserialize(MapAccessDeserializer::new(map))?.check().map_err(A::Error::custom)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(json: &str) -> String {
        serde_json::from_str::<RedisConfig>(json).unwrap_err().to_string()
    }

    #[test]
    fn a_section_that_makes_no_sense_is_refused_by_key() {
        assert!(refusal(r#"{"url":"redis://h","port":1}"#).contains("either `redis.url`"));
        assert!(refusal(r#"{"port":1}"#).contains("`redis.host` is missing"));
        assert!(refusal(r#"{"host":"h","username":"u"}"#).contains("needs `redis.password`"));
        assert!(refusal(r#"{"hots":"h"}"#).contains("hots"));
    }

    #[test]
    fn no_secret_is_repeated_by_an_error_or_shown() {
        for wrong in [r#"{"host":"h","password":48213}"#, r#"{"url":48213}"#, r#"{"host":"h","password":48213.5}"#] {
            let text = refusal(wrong);
            assert!(text.contains("quotes") && !text.contains("48213"), "{text}");
        }
        for json in [r#""redis://u:48213@h""#, r#"{"host":"h","username":"48213","password":"48213"}"#] {
            let config: RedisConfig = serde_json::from_str(json).unwrap();
            assert!(!format!("{config:?}").contains("48213"), "{config:?}");
        }
    }
}
