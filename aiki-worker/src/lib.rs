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
//! | [`BackupSubscribers`] | does so while a transport is away |
//! | [`WorkerStatus`], [`WorkerHealth`] | what can be seen of a worker; metrics with the feature `metrics` |
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
//!
//! # Foreign timers
//!
//! Nothing but `run.sleep(..)` and tasks survives the end of a pass. A handler that waits *only* for
//! something else, a timer of the runtime for instance, is warned of after a second (or fails, with
//! [`WorkerBuilder::fail_foreign_waits`]). Beside a durable step it cannot be told from the step, so
//! there is **no warning**: `tokio::time::timeout(limit, run.sleep("nap", hour))` takes an hour, because
//! the run is put aside until the sleep is over, its handler and the timer with it; and
//! `tokio::time::timeout(limit, task.start(..))` begins its limit anew whenever the run is replayed. Race
//! a durable step against a durable sleep instead:
//!
//! ```no_run
//! # use std::time::Duration;
//! # use aiki_core::{Failure, Run, Task, TaskContext, Workflow};
//! # use futures::future::{Either, select};
//! # let work = Task::new("work", |_: TaskContext, n: u32| async move { Ok::<_, Failure>(n) });
//! let limited = Workflow::new("limited").version("1.0.0", move |run: Run, n: u32| {
//!     let work = work.clone();
//!     async move {
//!         match select(work.start(&run, n), run.sleep("limit", Duration::from_secs(10))).await {
//!             Either::Left((done, _)) => Ok(Some(done?)),
//!             Either::Right(_) => Ok::<_, Failure>(None),
//!         }
//!     }
//! });
//! ```
//!
//! Inside a task's body every timer is fine: a body is not replayed.

mod active;
mod backoff;
mod backup;
mod batch;
mod builder;
mod claim_subscriber;
mod config;
mod dispatcher;
mod error;
mod executor;
mod health;
mod heartbeat;
mod lifecycle;
mod limits;
mod measure;
mod pulse;
mod reach;
mod registry;
mod report;
mod session;
mod status;
pub mod trace;
mod worker;

pub use backup::BackupSubscribers;
pub use builder::WorkerBuilder;
pub use claim_subscriber::ClaimSubscriber;
pub use config::{ConfigError, SubscriberConfig, WorkerConfig, WorkflowRunConfig};
pub use error::WorkerError;
pub use health::{Unready, WorkerHealth};
pub use limits::Limit;
#[cfg(feature = "metrics")]
pub use measure::describe_metrics;
pub use registry::RegistryHandle;
pub use report::StopReport;
pub use status::{ActiveRun, Totals, WorkerPhase, WorkerStatus};
pub use worker::{RunningWorker, Worker};
