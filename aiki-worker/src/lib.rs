//! The worker: receives hints of ready runs, claims them, replays their handlers and reports.
//!
//! *Core decides, the rest performs.* [`aiki_core::replay`] says what a handler needs next; this
//! crate sends the reports, keeps the claims alive and knows when to stop.
//!
//! | part | job |
//! |---|---|
//! | [`Worker`], [`WorkerBuilder`], [`WorkerConfig`] | what programs hold |
//! | `dispatcher` | receives, claims, starts and settles; its decisions are synchronous |
//! | `executor` | drives one pass of one run |
//! | `heartbeat` | prolongs claims and deliveries on a thread of its own |
//! | [`ClaimSubscriber`] | claims straight from the server, where there is no transport |
//! | [`trace`] | all log lines and their fields |
//!
//! ```no_run
//! # use aiki_core::{Client, Failure, Run, Workflow};
//! # use aiki_worker::Worker;
//! # async fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
//! let double = Workflow::new("double").version("1.0.0", |_: Run, n: u32| async move { Ok::<_, Failure>(n * 2) });
//! let worker = Worker::builder(client).id("worker-1").max_concurrent_workflow_runs(5).build()?;
//! worker.workflow_registry().add(&double);
//! let report = worker.start().await?; // resolves when somebody called `worker.stop()`
//! println!("{report}");
//! # Ok(()) }
//! ```

mod active;
mod backoff;
mod builder;
mod claim_subscriber;
mod config;
mod dispatcher;
mod error;
mod executor;
mod heartbeat;
mod lifecycle;
mod registry;
mod report;
mod session;
mod status;
pub mod trace;
mod worker;

pub use builder::WorkerBuilder;
pub use claim_subscriber::ClaimSubscriber;
pub use config::{ConfigError, SubscriberConfig, WorkerConfig, WorkflowRunConfig};
pub use error::WorkerError;
pub use registry::RegistryHandle;
pub use report::StopReport;
pub use status::{ActiveRun, Totals, WorkerPhase, WorkerStatus};
pub use worker::Worker;
