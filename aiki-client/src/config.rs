//! Where the server is, and how to reach Redis.

use serde::Deserialize;

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
}

/// A configuration that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// `url` is empty.
    #[error("`url` is empty: give the server's address, such as localhost:9090")]
    EmptyUrl,
    /// `url` has a scheme that is not HTTP.
    #[error("`url` has the scheme `{0}`: use http, https, or none")]
    Scheme(String),
}

impl ClientConfig {
    /// A client of the server at `url`.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), api_key: None, redis: None }
    }

    /// The server's address with its scheme, without a slash at the end.
    ///
    /// # Errors
    /// [`ConfigError`] when it is not an HTTP address.
    pub fn base_url(&self) -> Result<String, ConfigError> {
        let url = self.url.trim().trim_end_matches('/');
        match url.split_once("://") {
            _ if url.is_empty() => Err(ConfigError::EmptyUrl),
            Some(("http" | "https", _)) => Ok(url.to_owned()),
            Some((scheme, _)) => Err(ConfigError::Scheme(scheme.to_owned())),
            None => Ok(format!("http://{url}")),
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
