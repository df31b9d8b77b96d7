//! Where a worker is in its life, and what it is told from outside.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::error::WorkerError;
use crate::report::StopReport;
use crate::status::WorkerPhase;

/// What a running worker is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Control {
    pub(crate) stop: bool,
    pub(crate) paused: bool,
    /// The server refuses to prolong claims: new ones could not be kept either.
    pub(crate) refused: bool,
    pub(crate) registry_version: u64,
}

/// How a worker ended.
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub(crate) report: StopReport,
    pub(crate) error: Option<WorkerError>,
}

impl Control {
    /// Whether nothing new is taken for now.
    pub(crate) fn rests(&self) -> bool {
        self.paused || self.refused
    }
}

/// The worker's phase and its end. The phase only moves forward.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    phase: Mutex<WorkerPhase>,
    end: watch::Sender<Option<End>>,
}

impl Lifecycle {
    pub(crate) fn new() -> Self {
        Self { phase: Mutex::new(WorkerPhase::Idle), end: watch::Sender::new(None) }
    }

    pub(crate) fn phase(&self) -> WorkerPhase {
        *self.lock()
    }

    /// Moves from idle to starting if `check` agrees. Whether this call was the one that did it.
    pub(crate) fn begin(&self, check: impl FnOnce() -> Result<(), WorkerError>) -> Result<bool, WorkerError> {
        let mut phase = self.lock();
        if *phase != WorkerPhase::Idle {
            return Ok(false);
        }
        check()?;
        *phase = WorkerPhase::Starting;
        Ok(true)
    }

    pub(crate) fn advance(&self, to: WorkerPhase) {
        let mut phase = self.lock();
        *phase = (*phase).max(to);
    }

    /// Ends a worker that was never started. Whether that was so.
    pub(crate) fn end_unstarted(&self, report: impl FnOnce() -> StopReport) -> bool {
        let mut phase = self.lock();
        if *phase != WorkerPhase::Idle {
            return false;
        }
        *phase = WorkerPhase::Stopped;
        self.end.send_replace(Some(End { report: report(), error: None }));
        true
    }

    pub(crate) fn finish(&self, end: End) {
        *self.lock() = WorkerPhase::Stopped;
        self.end.send_if_modified(|slot| {
            let first = slot.is_none();
            if first {
                *slot = Some(end);
            }
            first
        });
    }

    /// Resolves when the worker has ended. Cancel-safe.
    pub(crate) async fn ended(&self) -> Option<End> {
        let mut end = self.end.subscribe();
        let end = end.wait_for(Option::is_some).await.ok()?;
        end.clone()
    }

    fn lock(&self) -> MutexGuard<'_, WorkerPhase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
