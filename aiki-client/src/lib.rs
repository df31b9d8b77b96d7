//! The client's configuration. The HTTP transport that uses it arrives together with the HTTP server;
//! until then programs use the embedded server, whose `client()` has the same type.
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
mod redis;
mod secret;

pub use config::{ClientConfig, ConfigError};
pub use redis::{RedisAddress, RedisConfig};
pub use secret::Secret;
