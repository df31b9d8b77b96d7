//! The orchestrator of Aiki as a library: state machine, stores, timers and announcements.
//!
//! [`Server::builder`] starts one inside the program; [`Server::client`] speaks to it. Every rule
//! about runs lives in `aiki-core`; this crate stores what the plans say and performs what follows
//! from them:
//!
//! * the *lane* takes requests in, plans those that queued during the last commit together, and
//!   commits them in one transaction
//! * the *storage* keeps one row per run (memory, SQLite or Postgres)
//! * the *effects* of a commit: announcements of ready runs, timers, wake-ups of those who wait
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use aiki_core::{Failure, Run, Workflow};
//! use aiki_server::Server;
//!
//! let server = Server::builder().start().await?;
//! let greeting = Workflow::new("greeting")
//!     .version("1.0.0", |_: Run, name: String| async move { Ok::<_, Failure>(format!("hello {name}")) });
//! let run = greeting.start(&server.client(), "world".to_owned()).await?;
//! assert_eq!(run.state().await?.status().as_str(), "queued");
//! server.close().await;
//! # Ok(())
//! # }
//! ```

#![cfg_attr(
    not(all(feature = "sqlite", feature = "postgres")),
    allow(dead_code, reason = "not every store needs the lane's thread, or knows of other servers")
)]

mod announcer;
mod builder;
mod doubt;
mod effects;
#[cfg(all(feature = "fail-points", feature = "sqlite"))]
#[doc(hidden)]
pub mod fail_points;
mod health;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "keys")]
pub mod keys;
mod lane;
mod local_client;
pub mod looking;
#[cfg(feature = "http")]
mod looks;
mod measure;
mod notice;
mod operation;
mod orphans;
mod panic;
#[cfg(feature = "postgres")]
mod peers;
#[cfg(feature = "http")]
mod plain_client;
#[cfg_attr(not(feature = "http"), allow(dead_code, reason = "workers are heard of over HTTP"))]
mod presence;
#[cfg(feature = "program")]
pub mod program;
mod readers;
mod record;
mod retention;
mod seekers;
mod server;
mod start_error;
mod storage;
mod timer;
mod validate;
mod watchers;
mod workers;

pub use builder::ServerBuilder;
pub use health::ServerHealth;
pub use local_client::LocalClient;
#[cfg(feature = "metrics")]
pub use measure::describe_metrics;
pub use server::Server;
pub use start_error::ServerStartError;
#[doc(hidden)]
pub use storage::kept::KeptMemory;
