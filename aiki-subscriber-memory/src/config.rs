//! What a queue can be told.

use std::time::Duration;

/// How a [`MemoryQueue`](crate::MemoryQueue) behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryQueueConfig {
    /// A delivery that its subscriber neither settles nor renews for this long goes to whoever
    /// receives next. 60 s by default.
    pub claim_min_idle_time: Duration,
    /// How long `receive` waits for a delivery before it answers with none. 1 s by default.
    pub block_time: Duration,
    /// At most so many runs are in the queue, waiting and held together. What is published beyond that
    /// is refused by name, and the server announces it again later. 1,000,000 by default, which takes
    /// some 250 MB when it is reached.
    pub capacity: usize,
}

impl Default for MemoryQueueConfig {
    fn default() -> Self {
        Self { claim_min_idle_time: Duration::from_secs(60), block_time: Duration::from_secs(1), capacity: 1_000_000 }
    }
}
