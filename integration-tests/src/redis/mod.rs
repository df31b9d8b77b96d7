//! A Redis to test against, and ways to trouble it.
//!
//! Where it comes from, in this order: `AIKI_TEST_REDIS_URL`; else a container, when a Docker daemon answers; else
//! `redis-server` from the `PATH` on a free port of its own. Tests that stop, kill or misconfigure Redis always use
//! the last, a [`RedisServer`].

pub mod bench;
mod cluster;
mod holder;
mod proxy;
mod server;
pub mod source;

pub use cluster::RedisCluster;
pub use holder::Holder;
pub use proxy::{Mode, Proxy};
pub use server::RedisServer;

use fred::clients::Client;
use fred::interfaces::ClientLike;
use fred::types::config::Config;
use fred::types::{ClusterHash, CustomCommand, FromValue};

/// A plain connection, to look at what is in Redis and to do harm.
///
/// # Panics
/// When Redis cannot be reached.
#[allow(clippy::expect_used)]
pub async fn connect(url: &str) -> Client {
    let client =
        fred::types::Builder::from_config(Config::from_url(url).expect("a good URL")).build().expect("a client");
    client.init().await.expect("Redis answers");
    client
}

/// Sends a signal to a process.
#[allow(clippy::expect_used)]
pub(crate) fn signal(process: u32, signal: &str) {
    let status = std::process::Command::new("kill").args([signal, &process.to_string()]).status().expect("kill exists");
    assert!(status.success(), "kill {signal} failed");
}

/// Whether somebody answers a PING there.
pub(crate) async fn answers(url: &str) -> Result<(), fred::error::Error> {
    let client = fred::types::Builder::from_config(Config::from_url(url)?).build()?;
    let task = client.init().await?;
    let answer = client.ping::<String>(None).await;
    task.abort();
    answer.map(drop)
}

/// Any command, given as words.
///
/// # Panics
/// When Redis answers with an error, or with something else than `R`.
#[allow(clippy::expect_used)]
pub async fn command<R: FromValue>(client: &Client, words: &str) -> R {
    let mut words = words.split(' ').map(str::to_owned);
    let command = CustomCommand::new(words.next().unwrap_or_default(), ClusterHash::FirstKey, false);
    client.custom(command, words.collect::<Vec<_>>()).await.expect("Redis does it")
}
