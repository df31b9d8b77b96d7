//! Which way runs come, as others see it.

use std::fmt::Display;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use aiki_core::SubscriberError;

use crate::measure::{Meter, Through};
use crate::trace;

/// Shared by all subscriptions of one factory: the latest one writes it.
#[derive(Debug, Default)]
pub(crate) struct Route {
    on_backup: AtomicBool,
    switches: AtomicU64,
    meter: Meter,
}

impl Route {
    pub(crate) fn new(meter: Meter) -> Self {
        Self { meter, ..Self::default() }
    }

    /// One of the two failed.
    pub(super) fn failed(&self, through: Through, error: &SubscriberError) {
        self.meter.subscriber_error(through, error);
    }

    pub(crate) fn is_on_backup(&self) -> bool {
        self.on_backup.load(Ordering::Relaxed)
    }

    pub(crate) fn switches(&self) -> u64 {
        self.switches.load(Ordering::Relaxed)
    }

    /// The primary was given up.
    pub(super) fn to_backup(&self, worker: &str, error: &dyn Display) {
        if !self.on_backup.swap(true, Ordering::Relaxed) {
            self.switches.fetch_add(1, Ordering::Relaxed);
            trace::backup_begins(worker, error);
            self.meter.on_backup(true);
        }
    }

    /// The primary answers again.
    pub(super) fn to_primary(&self, worker: &str) {
        if self.on_backup.swap(false, Ordering::Relaxed) {
            trace::backup_ends(worker);
            self.meter.on_backup(false);
            self.meter.reconnected();
        }
    }
}
