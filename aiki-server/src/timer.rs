//! The timer: does what is due, at the time when it is due.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aiki_core::{Clock, Timestamp};
use tokio::sync::Notify;

use crate::lane::LaneHandle;
use crate::operation::Due;

/// At most so many runs are moved in one commit.
const BATCH_LIMIT: usize = 1_000;
/// Longest uninterrupted sleep: a system clock that was set forward is noticed after this time.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// Pause after a failure of the store; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Knows when something is due next.
#[derive(Debug)]
pub(crate) struct Timer {
    /// In milliseconds; `u64::MAX`: nothing is.
    earliest: AtomicU64,
    rearmed: Notify,
}

impl Timer {
    /// A timer that looks into the store first of all.
    pub(crate) fn new() -> Self {
        Self { earliest: AtomicU64::new(0), rearmed: Notify::new() }
    }

    /// Something is due at `at`.
    pub(crate) fn arm(&self, at: Timestamp) {
        let at = at.as_millis();
        if at < self.earliest.fetch_min(at, Ordering::SeqCst) {
            self.rearmed.notify_one();
        }
    }

    /// Waits until something is due by `clock`.
    async fn wait(&self, clock: &dyn Clock) {
        loop {
            let (earliest, now) = (self.earliest.load(Ordering::SeqCst), clock.now().as_millis());
            if earliest <= now {
                return;
            }
            let rearmed = self.rearmed.notified();
            if earliest == u64::MAX {
                rearmed.await;
            } else {
                let until = Duration::from_millis(earliest - now).min(LONGEST_SLEEP);
                // Either way the loop looks again.
                let _ = tokio::time::timeout(until, rearmed).await;
            }
        }
    }

    /// Does what is due by the server's clock.
    async fn fire(&self, lane: &LaneHandle) -> Result<(), aiki_core::ServerError> {
        loop {
            // What is armed from here on is kept.
            self.earliest.store(u64::MAX, Ordering::SeqCst);
            let done = lane.call(Due { limit: BATCH_LIMIT }).await?;
            self.arm(done.next.unwrap_or(Timestamp::MAX));
            if !done.more {
                return Ok(());
            }
        }
    }

    /// Runs for as long as the server does.
    pub(crate) async fn run(self: Arc<Self>, clock: Arc<dyn Clock>, lane: LaneHandle) {
        let mut pause = FIRST_PAUSE;
        loop {
            self.wait(&*clock).await;
            match self.fire(&lane).await {
                Ok(()) => pause = FIRST_PAUSE,
                Err(error) => {
                    tracing::warn!(%error, "timers could not be served, trying again in {pause:?}");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    self.arm(Timestamp::EPOCH);
                }
            }
        }
    }

    /// Does at once what is due by the server's clock: for clocks that are stepped by hand.
    pub(crate) async fn run_due(&self, lane: &LaneHandle) -> Result<(), aiki_core::ServerError> {
        self.fire(lane).await
    }
}
