//! The signs of life that a dispatcher leaves, for whoever looks from outside.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Moments in [ticks](crate::active::Ticks); 0 means never.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    ticked: AtomicU64,
    consumed: AtomicU64,
    /// When the worker last wanted nothing.
    sated: AtomicU64,
    held: AtomicUsize,
}

impl Pulse {
    /// The loop goes round, with so many deliveries held. It is `sated` when it has no room for more, or is
    /// told not to want any.
    pub(crate) fn tick(&self, now: u64, held: usize, sated: bool) {
        self.ticked.store(now, Ordering::Relaxed);
        self.held.store(held, Ordering::Relaxed);
        if sated {
            self.sated.store(now, Ordering::Relaxed);
        }
    }

    /// Somebody answered a question for deliveries.
    pub(crate) fn consume(&self, at: u64) {
        self.consumed.fetch_max(at, Ordering::Relaxed);
    }

    pub(crate) fn ticked(&self) -> u64 {
        self.ticked.load(Ordering::Relaxed)
    }

    pub(crate) fn consumed(&self) -> u64 {
        self.consumed.load(Ordering::Relaxed)
    }

    /// Since when the worker could have consumed and did not.
    pub(crate) fn starving(&self) -> u64 {
        self.consumed().max(self.sated.load(Ordering::Relaxed))
    }

    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}
