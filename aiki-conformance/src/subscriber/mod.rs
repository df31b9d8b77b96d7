//! The suite for subscriber implementations: how to write a backend.
//!
//! A backend is a [`Publisher`](aiki_core::Publisher), a
//! [`SubscriberFactory`](aiki_core::SubscriberFactory) and the
//! [`Subscriber`](aiki_core::Subscriber) that it makes. Begin with the least that compiles and let the
//! suite say what is missing. This one delivers, and that is all it does:
//!
//! ```
//! use std::collections::VecDeque;
//! use std::sync::{Arc, Mutex};
//! use std::time::Duration;
//!
//! use aiki_conformance::subscriber::{PlainHarness, cases};
//! use aiki_core::subscriber::{DeliveryLease, Guarantees, Receipt, ReleaseDelay};
//! use aiki_core::{Delivery, PublishReport, Publisher, ReadyRun};
//! use aiki_core::{Subscriber, SubscriberError, SubscriberFactory, Subscription};
//! use async_trait::async_trait;
//!
//! #[derive(Clone, Debug, Default)]
//! struct Queue(Arc<Mutex<VecDeque<ReadyRun>>>);
//!
//! #[async_trait]
//! impl Publisher for Queue {
//!     async fn publish(&self, runs: &[ReadyRun]) -> PublishReport {
//!         self.0.lock().unwrap().extend(runs.iter().cloned());
//!         PublishReport::default()
//!     }
//! }
//!
//! #[async_trait]
//! impl SubscriberFactory for Queue {
//!     async fn subscribe(&self, _: Subscription) -> Result<Box<dyn Subscriber>, SubscriberError> {
//!         Ok(Box::new(self.clone()))
//!     }
//!
//!     fn claim_min_idle_time(&self) -> Option<Duration> {
//!         Some(Duration::from_secs(60))
//!     }
//! }
//!
//! #[async_trait]
//! impl Subscriber for Queue {
//!     async fn receive(&self, limit: usize) -> Result<Vec<Delivery>, SubscriberError> {
//!         let mut queue = self.0.lock().unwrap();
//!         let count = limit.min(queue.len());
//!         let deliver = |run: ReadyRun| Delivery {
//!             run: run.id,
//!             receipt: Receipt(run.id.to_string()),
//!             workflow: run.workflow,
//!             claimed: None,
//!         };
//!         Ok(queue.drain(..count).map(deliver).collect())
//!     }
//!
//!     async fn ack(&self, _: &[Receipt]) -> Result<(), SubscriberError> {
//!         Ok(())
//!     }
//!
//!     async fn heartbeat(&self, receipts: &[Receipt]) -> Result<Vec<DeliveryLease>, SubscriberError> {
//!         Ok(vec![DeliveryLease::Mine; receipts.len()])
//!     }
//!
//!     async fn release(&self, _: &[Receipt], _: ReleaseDelay) -> Result<(), SubscriberError> {
//!         Ok(())
//!     }
//!
//!     fn next_delay(&self, _: u32) -> Duration {
//!         Duration::from_millis(100)
//!     }
//!
//!     fn guarantees(&self) -> Guarantees {
//!         Guarantees { redelivers_after: Some(Duration::from_secs(60)), waits: false }
//!     }
//!
//!     async fn close(&self) -> Result<(), SubscriberError> {
//!         Ok(())
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
//! let harness = || {
//!     let queue = Queue::default();
//!     PlainHarness::new(queue.clone(), queue)
//! };
//! assert_eq!(cases::delivers_a_published_run_once(&harness()).await, Ok(()));
//!
//! let failure = cases::silence_moves_a_delivery_to_another(&harness()).await.unwrap_err();
//! assert_eq!(failure.to_string(), "silence_moves_a_delivery_to_another: 0 of 3 expected runs were delivered within 45s");
//! # });
//! ```
//!
//! In the backend's tests, one line makes a test of every case, in virtual time or in real time:
//!
//! ```
//! # mod backend {
//! # #[derive(Clone, Debug, Default)] pub struct Queue;
//! # use aiki_core::*;
//! # #[async_trait::async_trait]
//! # impl Publisher for Queue { async fn publish(&self, _: &[ReadyRun]) -> PublishReport { PublishReport::default() } }
//! # #[async_trait::async_trait]
//! # impl SubscriberFactory for Queue {
//! #     async fn subscribe(&self, _: Subscription) -> Result<Box<dyn Subscriber>, SubscriberError> { Err(SubscriberError::Closed) }
//! #     fn claim_min_idle_time(&self) -> Option<std::time::Duration> { None }
//! # }
//! # }
//! # use backend::Queue;
//! use aiki_conformance::subscriber::PlainHarness;
//!
//! fn harness() -> PlainHarness {
//!     let queue = Queue::default();
//!     PlainHarness::new(queue.clone(), queue)
//! }
//!
//! mod virtual_time {
//!     aiki_conformance::subscriber_conformance!(super::harness());
//! }
//!
//! mod real_time {
//!     aiki_conformance::subscriber_conformance!(#[tokio::test] super::harness());
//! }
//! # fn main() {}
//! ```
//!
//! A backend that needs more than that (a connection, a slower sweep, a process to kill) implements
//! [`Harness`] itself. A wrapper around a backend must pass the suite as well: [`InstrumentedSubscribers`]
//! and [`FaultySubscribers`] do, the latter without the cases that forbid what faults do
//! ([`subscriber_conformance_under_faults!`](crate::subscriber_conformance_under_faults)).
//!
//! `aiki-subscriber-memory` is a complete backend to read, and its `tests/broken_queues.rs` shows which
//! case finds which mistake.

mod bench;
pub mod cases;
mod chance;
mod failure;
mod faulty;
mod harness;
mod instrumented;
mod list;

pub use failure::{CaseFailure, CaseResult};
pub use faulty::{Faults, FaultySubscribers};
pub use harness::{Harness, PlainHarness};
pub use instrumented::{Counts, InstrumentedSubscribers};
