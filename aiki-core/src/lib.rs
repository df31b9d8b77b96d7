//! The core of Aiki: what durable workflows mean, without saying how anything is sent or stored.
//!
//! *Core decides, the rest performs.* The queue delivers hints, the server grants claims, and a
//! claim's epoch fences every write. A workflow's code is replayed against its record until it asks
//! for something new; that something is written down before it is done.
//!
//! * [`definition`]: [`Task`], [`Workflow`], [`WorkflowRegistry`]
//! * [`context`]: what handlers get: [`Run`], [`TaskContext`]
//! * [`replay`]: the sans-io machine that replays a handler against its record
//! * [`run`]: states, legal moves, history and the server's plans
//! * [`schedule`]: what starts runs by the calendar, and the plans for it
//! * [`client`]: [`Client`], [`RunHandle`] and [`Schedule`], for callers
//! * the seams: [`ServerClient`], [`Subscriber`], [`Publisher`], [`WorkflowExecutor`], [`Clock`]
//!
//! There is no runtime, no socket, no clock and no randomness in this crate; all are arguments.
//! Most programs depend on the `aiki` crate, which brings the parts together.
//!
//! ```
//! use aiki_core::{Failure, Run, Task, TaskContext, Workflow};
//!
//! let shout = Task::new("shout", |_: TaskContext, text: String| async move {
//!     Ok::<_, Failure>(text.to_uppercase())
//! });
//! let greeting = Workflow::new("greeting").version("1.0.0", move |run: Run, name: String| {
//!     let shout = shout.clone();
//!     async move { Ok::<_, Failure>(shout.start(&run, format!("hello {name}")).await?) }
//! });
//! assert_eq!(greeting.key().to_string(), "greeting@1.0.0");
//! ```

pub mod cancel;
pub mod client;
pub mod context;
pub mod definition;
pub mod duration;
pub mod executor;
pub mod failure;
pub mod gate;
pub mod hash;
pub mod id;
pub mod intercept;
pub mod listing;
pub mod name;
pub mod payload;
pub mod publisher;
pub mod rank;
pub mod replay;
pub mod report;
pub mod retry;
pub mod run;
pub mod schedule;
pub mod server_client;
mod server_layer;
mod shown;
pub mod subscriber;
pub mod system;
pub mod time;
pub mod trace;

pub use cancel::CancellationToken;
pub use client::{
    Client, RunError, RunHandle, RunList, Schedule, ScheduleError, ScheduleHandle, SendEventError, StartError, StartRun,
};
pub use context::{Child, Either, Elapsed, Run, Slept, TaskContext, race};
pub use definition::{Event, RegisteredWorkflow, RegistryError, Task, Workflow, WorkflowRegistry, WorkflowVersion};
pub use executor::{ExecutionScope, Outcome, WorkflowExecutor};
pub use failure::{ChildError, ErrorObject, Failure, HandlerError, RetryHint, TaskError};
pub use hash::InputHash;
pub use id::{RunId, ScheduleId, TaskId};
pub use intercept::{TaskAttempt, TaskInterceptor};
pub use name::{Name, WorkflowKey};
pub use payload::Payload;
pub use publisher::{PublishReport, Publisher, ReadyRun};
pub use rank::Priority;
pub use report::{Report, ReportReceipt, Transition};
pub use retry::RetryStrategy;
pub use run::{ConflictPolicy, RunRecord, RunState};
pub use schedule::{OverlapPolicy, ScheduleRecord, ScheduleSpec, ScheduleStatus};
pub use server_client::{ServerClient, ServerError};
pub use subscriber::{Delivery, Subscriber, SubscriberError, SubscriberFactory, Subscription};
pub use time::{Clock, Timestamp};
pub use trace::{TraceParent, TraceParentError};
