//! In-memory subscriber and publisher for Aiki: unit tests and the embedded default.
//!
//! One [`MemoryQueue`] is both ends of the transport. Swap it in wherever a worker is given a
//! [`SubscriberFactory`](aiki_core::SubscriberFactory) and a server a
//! [`Publisher`](aiki_core::Publisher); it keeps the same promises as the Redis one, as they pass the
//! same suite.
//!
//! ```
//! use aiki_core::{Name, Priority, Publisher, ReadyRun, RunId, SubscriberFactory, Subscription, WorkflowKey};
//! use aiki_subscriber_memory::MemoryQueue;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), aiki_core::SubscriberError> {
//! let queue = MemoryQueue::new();
//! let publisher = queue.clone(); // for the server
//!
//! // What a worker does with it:
//! let orders = WorkflowKey::user("orders", "1.0.0");
//! let subscriber = queue
//!     .subscribe(Subscription {
//!         worker: Name::new("worker-1"),
//!         namespace: Name::new("default"),
//!         workflows: vec![orders.clone()],
//!         pools: vec![],
//!     })
//!     .await?;
//!
//! // What a server does with it:
//! let run = ReadyRun {
//!     id: RunId::from_bits(1 << 24),
//!     namespace: Name::new("default"),
//!     workflow: orders,
//!     pool: None,
//!     priority: Priority::Normal,
//! };
//! publisher.publish(&[run.clone()]).await;
//!
//! let deliveries = subscriber.receive(8).await?;
//! assert_eq!(deliveries[0].run, run.id);
//! subscriber.ack(&[deliveries[0].receipt.clone()]).await?;
//! assert_eq!((queue.depth(), queue.held()), (0, 0));
//! # Ok(())
//! # }
//! ```
//!
//! # What it promises
//!
//! * A run is with one subscriber at a time. It moves on when its holder releases it, closes, or neither
//!   acknowledges nor renews it for [`claim_min_idle_time`](MemoryQueueConfig::claim_min_idle_time).
//! * A run that is in the queue is not queued twice. What is announced while the run is held is
//!   delivered after the acknowledgement: the run may have become ready again in between.
//! * `receive` never polls. It is woken by a run that it can have, by a lease that lapses and by a delay
//!   that ends, to the millisecond; and by nothing else. Dropping its future at any point loses nothing.
//! * Streams (one for each namespace, pool and workflow version) are served in turn, one run each.
//!   Higher priorities go first, and after [`BURST`] deliveries of one priority in a row a lower one has
//!   its turn.
//! * [`capacity`](MemoryQueueConfig::capacity) bounds the memory. Nothing outlives the process.
//!
//! All times are tokio's, so a paused clock makes them virtual. The future of `receive` needs a tokio
//! runtime with its timer; everything else runs anywhere and never waits.

mod broker;
mod config;
mod queue;
mod subscriber;

pub use broker::BURST;
pub use config::MemoryQueueConfig;
pub use queue::MemoryQueue;
