//! What there is to see when all is over.

use std::collections::BTreeMap;

use aiki_core::run::record::TransitionRecord;
use aiki_core::{Name, RunId, RunRecord, ServerError, Timestamp};

/// A run as the server shows it to a client.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The run.
    pub record: RunRecord,
    /// Its transitions, oldest first.
    pub transitions: Vec<TransitionRecord>,
}

/// What the server shows of all runs that anybody has heard of.
#[derive(Debug, Default)]
pub struct End {
    /// The runs, or why they cannot be shown.
    pub runs: BTreeMap<RunId, Result<Shown, ServerError>>,
    /// The time by the server's clock.
    pub now: Timestamp,
}

/// Something that has to be back where it was when all is quiet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gauge {
    /// What is counted.
    pub name: String,
    /// What it was, or may be.
    pub baseline: u64,
    /// What it is.
    pub now: u64,
}

/// What has to be looked up behind the public client: counts in the store and in the transport.
pub trait Views {
    /// How many rows of the store announce this run. `None`: nobody can tell.
    fn announcements(&self, run: RunId) -> Option<usize>;

    /// How many deliveries this worker holds. `None`: nobody can tell.
    fn held_by(&self, worker: &Name) -> Option<usize>;

    /// What has to be back where it was.
    fn gauges(&self) -> Vec<Gauge>;
}

/// For campaigns that cannot look behind the client.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoViews;

impl Views for NoViews {
    fn announcements(&self, _: RunId) -> Option<usize> {
        None
    }

    fn held_by(&self, _: &Name) -> Option<usize> {
        None
    }

    fn gauges(&self) -> Vec<Gauge> {
        Vec::new()
    }
}
