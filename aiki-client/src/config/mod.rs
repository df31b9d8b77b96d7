//! Where the server is, and how to reach Redis.

mod error;
mod read;

use std::path::PathBuf;
use std::time::Duration;

use aiki_core::Name;
use aiki_core::time::millis;
use serde::Deserialize;

pub use error::ConfigError;

use crate::redis::RedisConfig;
use crate::secret::Secret;

/// A client's configuration, in the documented camelCase.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClientConfig {
    /// The server, with or without a scheme: `localhost:9090`.
    pub url: String,
    /// The key to present, if the server asks for one.
    #[serde(default)]
    pub api_key: Option<Secret>,
    /// Redis, for workers that subscribe through it.
    #[serde(default)]
    pub redis: Option<RedisConfig>,
    /// The namespace that the key belongs to. The server tells it; give it where it has to be known before the
    /// server has been reached, as for workers that subscribe through Redis.
    #[serde(default)]
    pub namespace: Option<Name>,
    /// Trusts only who the certificates of this PEM file have signed. Only with https.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// How long making a connection may take. 5 s unless given.
    #[serde(default = "connect_timeout", rename = "connectTimeoutMs", with = "millis")]
    pub connect_timeout: Duration,
    /// How long the answer to a request may take, beyond the time that the request itself asks the server to
    /// wait. 30 s unless given.
    #[serde(default = "request_timeout", rename = "requestTimeoutMs", with = "millis")]
    pub request_timeout: Duration,
    /// For how long a request that did not reach the server, or whose answer was lost, is tried again. 10 s
    /// unless given.
    #[serde(default = "retry_for", rename = "retryForMs", with = "millis")]
    pub retry_for: Duration,
    /// The largest answer that is read, in bytes. 64 MiB unless given.
    #[serde(default = "answer_limit")]
    pub answer_limit: usize,
}

fn connect_timeout() -> Duration {
    Duration::from_secs(5)
}

fn request_timeout() -> Duration {
    Duration::from_secs(30)
}

fn retry_for() -> Duration {
    Duration::from_secs(10)
}

fn answer_limit() -> usize {
    64 * 1024 * 1024
}

impl ClientConfig {
    /// A client of the server at `url`.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            api_key: None,
            redis: None,
            namespace: None,
            ca_file: None,
            connect_timeout: connect_timeout(),
            request_timeout: request_timeout(),
            retry_for: retry_for(),
            answer_limit: answer_limit(),
        }
    }

    /// The server's address with its scheme, without a slash at the end.
    ///
    /// # Errors
    /// [`ConfigError`] when it is not an HTTP address.
    pub fn base_url(&self) -> Result<String, ConfigError> {
        let url = self.url.trim();
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        let rest = rest.trim_end_matches('/');
        match scheme {
            _ if url.is_empty() => Err(ConfigError::EmptyUrl),
            "http" | "https" => Ok(format!("{scheme}://{rest}")),
            scheme => Err(ConfigError::Scheme(scheme.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_completed_or_refused() {
        assert_eq!(ClientConfig::new("localhost:9090/").base_url().unwrap(), "http://localhost:9090");
        assert_eq!(ClientConfig::new("https://aiki.example").base_url().unwrap(), "https://aiki.example");
        assert_eq!(ClientConfig::new(" ").base_url(), Err(ConfigError::EmptyUrl));
        assert_eq!(ClientConfig::new("redis://x").base_url(), Err(ConfigError::Scheme("redis".into())));
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let error = serde_json::from_str::<ClientConfig>(r#"{"url":"x","apikey":"y"}"#).unwrap_err();
        assert!(error.to_string().contains("apikey"), "{error}");
    }

    #[test]
    fn secrets_do_not_show() {
        let config: ClientConfig =
            serde_json::from_str(r#"{"url":"x","apiKey":"k3y","redis":{"host":"h","password":"pa55","db":2}}"#)
                .unwrap();
        let shown = format!("{config:?}");
        assert!(!shown.contains("k3y") && !shown.contains("pa55"), "{shown}");
        assert_eq!(config.api_key.unwrap().reveal(), "k3y");
    }
}
