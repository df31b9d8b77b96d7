//! Durable workflows as plain async Rust.
//!
//! A workflow calls tasks; every result is recorded by a server. A worker that dies is replaced by
//! another one that replays the record and goes on where it stopped.
//!
//! ```
//! use std::time::Duration;
//! use aiki::prelude::*;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), aiki::Error> {
//! // A task: work with effects. Its result is recorded and never computed again.
//! let greet = Task::new("greet", |_: TaskContext, name: String| async move {
//!     Ok::<_, Failure>(format!("Hello {name}"))
//! })
//! .retry(RetryStrategy::exponential(3, Duration::from_secs(1)));
//!
//! // A workflow: plain async Rust over tasks.
//! let greeting = Workflow::new("greeting").version("1.0.0", move |run: Run, name: String| {
//!     let greet = greet.clone();
//!     async move {
//!         let text = greet.start(&run, name).await?;
//!         run.sleep("pause", Duration::from_millis(20)).await; // survives a restart
//!         Ok::<_, Failure>(format!("{text}!"))
//!     }
//! });
//!
//! // Everything in one process. `Server::embedded("app.db")` keeps it in a file.
//! let server = Server::in_memory().await?;
//! let worker = Worker::builder(server.client()).subscriber(server.subscriber()).build()?;
//! worker.workflow_registry().add(&greeting);
//! let running = tokio::spawn({ let worker = worker.clone(); async move { worker.start().await } });
//!
//! let handle = greeting.start(&server.client(), "Ada".to_owned()).await?;
//! assert_eq!(handle.wait().await.expect("the run completes"), "Hello Ada!");
//!
//! worker.stop().await;
//! running.await.expect("the worker did not panic")?;
//! server.close().await;
//! # Ok(()) }
//! ```
//!
//! The attributes `#[aiki::task]` and `#[aiki::workflow]` (feature `macros`, on by default) make the same of plain
//! functions, without closures and clones.
//!
//! | to | use |
//! |---|---|
//! | define | [`Task`], [`Workflow`], [`RetryStrategy`], [`Failure`] |
//! | work | [`Worker`], [`WorkerConfig`] |
//! | start and wait | [`Client`], [`StartRun`], [`RunHandle`] |
//! | start by the calendar | [`Schedule`], [`ScheduleHandle`], [`OverlapPolicy`] |
//! | reach a server elsewhere | [`connect`], [`ClientConfig`] (feature `http`, on by default) |
//! | host everything here | [`Server`] (feature `embedded`, on by default) |
//! | let workers elsewhere have the runs | the module `redis` (feature `redis`) |
//! | see how it goes | [`Worker::health`], [`Worker::status`], metrics (features `metrics` and `prometheus`) |
//! | test | the module `testing` (feature `testing`) |
//! | write a transport | [`subscriber`], [`publisher`] and the crate `aiki-conformance` |

#[cfg(feature = "http")]
mod connect;
#[cfg(feature = "embedded")]
mod embedded;
mod error;
#[cfg(feature = "prometheus")]
pub mod prometheus;
#[cfg(feature = "redis")]
pub mod redis;
mod shutdown;
mod subscribers;

pub mod prelude;

#[cfg(feature = "http")]
pub use aiki_client::HttpClient;
#[cfg(any(feature = "http", feature = "redis"))]
pub use aiki_client::{ClientConfig, ConfigError as ClientConfigError, Secret};
pub use aiki_core::*;
#[cfg(feature = "macros")]
pub use aiki_macros::{task, workflow};
pub use aiki_runtime::{Entropy, SeededEntropy, SystemClock, SystemEntropy, VirtualClock};
#[cfg(feature = "testing")]
pub use aiki_testing as testing;
pub use aiki_worker::{
    ConfigError, Limit, StopReport, Unready, Worker, WorkerBuilder, WorkerConfig, WorkerError, WorkerHealth,
    WorkerStatus,
};
#[cfg(feature = "http")]
pub use connect::{ConnectError, connect};
#[cfg(feature = "embedded")]
pub use embedded::{Server, ServerBuilder};
pub use error::Error;
pub use shutdown::shutdown_signal;
pub use subscribers::SubscriberTypes;

/// The program in the page about schedules runs.
#[cfg(all(doctest, feature = "embedded"))]
#[doc = include_str!("../../docs/schedules.md")]
struct Schedules;

/// The program in the page about testing runs.
#[cfg(all(doctest, feature = "testing", feature = "macros"))]
#[doc = include_str!("../../docs/testing.md")]
struct Testing;

/// The README's program compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
