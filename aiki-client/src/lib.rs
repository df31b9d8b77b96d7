//! The client of a server elsewhere: [`HttpClient`], and its configuration.
//!
//! ```
//! use aiki_client::ClientConfig;
//!
//! let config: ClientConfig = serde_json::from_str(
//!     r#"{"url":"localhost:9090","redis":{"host":"localhost","port":6379,"password":"hidden"}}"#,
//! )?;
//! assert_eq!(config.base_url()?, "http://localhost:9090");
//! assert!(!format!("{config:?}").contains("hidden"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod config;
mod http;
mod plain;
mod redis;
mod secret;

pub use config::{ClientConfig, ConfigError};
pub use http::HttpClient;
pub use redis::{RedisAddress, RedisConfig};
pub use secret::Secret;
