//! One subscription of a worker.

use std::fmt;

use aiki_core::Subscriber;

/// A subscription and its number. A worker begins a new one when workflows were added; the old one
/// lives on until the deliveries that came through it are settled.
pub(crate) struct Session {
    pub(crate) generation: u32,
    /// The version of the registry that it was made for.
    pub(crate) registry_version: u64,
    pub(crate) subscriber: Box<dyn Subscriber>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("generation", &self.generation).finish_non_exhaustive()
    }
}
