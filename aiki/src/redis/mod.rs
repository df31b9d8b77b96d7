//! Redis Streams between server and workers (feature `redis`).
//!
//! ```no_run
//! use aiki::prelude::*;
//! use aiki::redis::RedisUrl;
//!
//! # async fn example() -> Result<(), aiki::Error> {
//! let redis: RedisUrl = "redis://localhost:6379".parse()?;
//! let server = Server::builder().sqlite("orders.db").redis(redis).start().await?;
//! let worker = Worker::builder(server.client()).subscriber(server.subscriber()).build()?;
//! # Ok(()) }
//! ```
//!
//! Or from files: the address stands in the client's configuration, since it is a secret; the worker's
//! configuration only names the type.
//!
//! ```no_run
//! use aiki::prelude::*;
//! use aiki::{ClientConfig, SubscriberTypes};
//!
//! # fn example(client: Client) -> Result<(), aiki::Error> {
//! let config = ClientConfig::from_json(
//!     r#"{"url":"localhost:9090","redis":{"host":"localhost","port":6379,"password":"hidden","db":0}}"#,
//! )?;
//! let worker = WorkerConfig::from_json(
//!     r#"{"subscriber":{"type":"redis_streams","claimMinIdleTimeMs":60000,"blockTimeMs":1000}}"#,
//! )?;
//! let worker = SubscriberTypes::of_client(&config)?.worker(client, worker)?.build()?;
//! # Ok(()) }
//! ```
//!
//! While Redis is away, workers claim runs straight from the server; see
//! [`WorkerBuilder::backup_subscriber`](crate::WorkerBuilder::backup_subscriber).

use std::sync::Arc;
use std::time::Duration;

use aiki_client::{ClientConfig, RedisAddress, RedisConfig};
pub use aiki_subscriber_redis::{
    Health, RedisPublisher, RedisStreams, RedisStreamsOptions, RedisStreamsOptionsError, RedisUrl, RedisUrlError,
};
use aiki_worker::{ConfigError, SubscriberConfig};
use serde_json::Value;

#[cfg(feature = "metrics")]
mod measure;

use crate::SubscriberTypes;
use crate::subscribers::REDIS_STREAMS;
#[cfg(feature = "metrics")]
pub use measure::measure;

impl SubscriberTypes {
    /// The types for a client: `http`, and `redis_streams` if its configuration has a `redis`.
    ///
    /// # Errors
    /// The address of the Redis cannot be used. The text does not repeat it.
    pub fn of_client(config: &ClientConfig) -> Result<Self, RedisUrlError> {
        match &config.redis {
            Some(redis) => Ok(Self::new().redis(RedisStreams::new(address(redis)?))),
            None => Ok(Self::new()),
        }
    }

    /// Adds the type `redis_streams`. A clone of `streams` shows the health of all that is made of it.
    pub fn redis(self, streams: RedisStreams) -> Self {
        self.with(REDIS_STREAMS, move |subscriber| {
            let RedisStreamsOptions { claim_min_idle_time_ms, block_time_ms, .. } = options(subscriber)?;
            let streams = streams.clone().claim_min_idle_time(Duration::from_millis(claim_min_idle_time_ms));
            Ok(Arc::new(streams.block_time(Duration::from_millis(block_time_ms))))
        })
    }
}

/// The address in a client's configuration.
fn address(config: &RedisConfig) -> Result<RedisUrl, RedisUrlError> {
    let url = match &config.address {
        RedisAddress::Url(url) => url.reveal().parse()?,
        RedisAddress::Parts { host, port, username, password, db, tls } => {
            let url = RedisUrl::new(host, *port).database(*db).tls(*tls);
            match password {
                Some(password) => url.credentials(username.clone(), password.reveal()),
                None => url,
            }
        }
    };
    match &config.ca_file {
        None => Ok(url),
        // Shown without its secrets, the address still says whether it uses TLS.
        Some(_) if url.to_string().starts_with("redis:") => Err(RedisUrlError::CaWithoutTls),
        Some(file) => Ok(url.certificate_authority(file)),
    }
}

/// The options in a worker's configuration.
fn options(subscriber: &SubscriberConfig) -> Result<RedisStreamsOptions, ConfigError> {
    let refuse = |problem: String, remedy: &str| ConfigError::Value {
        key: "subscriber",
        problem: format!("of the type `{REDIS_STREAMS}` cannot be used ({problem})"),
        remedy: remedy.to_owned(),
    };
    let options: RedisStreamsOptions = serde_json::from_value(Value::Object(subscriber.options.clone()))
        .map_err(|error| refuse(error.to_string(), "give claimMinIdleTimeMs and blockTimeMs, whole milliseconds"))?;
    options.check().map_err(|error| refuse(error.to_string(), "60000 and 1000 are usual"))?;
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> Result<RedisUrl, RedisUrlError> {
        let config: RedisConfig = serde_json::from_str(json).expect("a good section");
        address(&config)
    }

    #[test]
    fn every_form_of_an_address_arrives_whole() {
        let secret = RedisUrl::new("h", 1).credentials(Some("u".into()), "p%").database(2);
        assert_eq!(of(r#"{"host":"h","port":1,"username":"u","password":"p%","db":2}"#), Ok(secret.clone()));
        assert_eq!(of(r#""redis://u:p%25@h:1/2""#), Ok(secret));
        assert_eq!(of(r#"{"host":"h","tls":true}"#), Ok(RedisUrl::new("h", 6379).tls(true)));
        let own = RedisUrl::new("h", 6379).certificate_authority("ca.pem");
        assert_eq!(of(r#"{"url":"rediss://h","caFile":"ca.pem"}"#), Ok(own));
        assert_eq!(of(r#"{"host":"h","caFile":"ca.pem"}"#), Err(RedisUrlError::CaWithoutTls));
        let error = of(r#""redis://u:hunter2@h:x""#).expect_err("a bad port");
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}
