//! The queue itself: what a program holds.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aiki_core::{PublishReport, Publisher, ReadyRun, Subscriber, SubscriberError, SubscriberFactory, Subscription};
use async_trait::async_trait;

use crate::broker::Broker;
use crate::config::MemoryQueueConfig;
use crate::subscriber::MemorySubscriber;

/// A queue of ready runs in this process. Clones share it: give one to the server as its
/// [`Publisher`] and one to the worker as its [`SubscriberFactory`].
///
/// It is bounded by [`MemoryQueueConfig::capacity`] and dies with the process, which costs nothing
/// but time: the server announces again what nobody took.
#[derive(Clone)]
pub struct MemoryQueue {
    broker: Arc<Mutex<Broker>>,
}

impl MemoryQueue {
    /// An empty queue with the default configuration.
    pub fn new() -> Self {
        Self::with(MemoryQueueConfig::default())
    }

    /// An empty queue.
    pub fn with(config: MemoryQueueConfig) -> Self {
        Self { broker: Arc::new(Mutex::new(Broker::new(config))) }
    }

    /// How many runs wait to be received. For tests and metrics.
    pub fn depth(&self) -> usize {
        self.lock().depth()
    }

    /// How many runs were handed back for later. For tests and metrics.
    pub fn delayed(&self) -> usize {
        self.lock().delayed()
    }

    /// How many runs are with subscribers, dead ones included. For tests and metrics.
    pub fn held(&self) -> usize {
        self.lock().held()
    }

    /// No step under the lock can panic halfway, so a poisoned lock guards a sound queue.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Broker> {
        self.broker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryQueue {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let broker = self.lock();
        f.debug_struct("MemoryQueue")
            .field("config", broker.config())
            .field("depth", &broker.depth())
            .field("delayed", &broker.delayed())
            .field("held", &broker.held())
            .finish()
    }
}

#[async_trait]
impl Publisher for MemoryQueue {
    /// Takes effect at once, without waiting. A run that is in the queue already is not queued twice:
    /// while it waits the announcement adds nothing, while it is held it is kept until the holder has
    /// acknowledged, and while it is delayed it ends the delay.
    async fn publish(&self, runs: &[ReadyRun]) -> PublishReport {
        let mut report = PublishReport::default();
        let mut broker = self.lock();
        let capacity = broker.config().capacity;
        broker.publish(runs, |run| report.failed.push((run, format!("the queue is full: it holds {capacity} runs"))));
        report
    }
}

#[async_trait]
impl SubscriberFactory for MemoryQueue {
    async fn subscribe(&self, subscription: Subscription) -> Result<Box<dyn Subscriber>, SubscriberError> {
        Ok(Box::new(MemorySubscriber::new(self.clone(), &subscription)))
    }

    fn claim_min_idle_time(&self) -> Option<Duration> {
        Some(self.lock().config().claim_min_idle_time)
    }
}
