//! The timer: does what is due, at the time when it is due.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aiki_core::{Clock, Timestamp};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::lane::LaneHandle;
use crate::measure;
use crate::operation::{Due, FireSchedules};

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
    /// The first run, in milliseconds; `u64::MAX`: nothing is.
    earliest: AtomicU64,
    /// The first schedule, in milliseconds; `u64::MAX`: nothing is.
    schedules: AtomicU64,
    rearmed: Notify,
    /// How often to look into the store anyway: other servers set timers as well, and may be gone when they ring.
    look_every: Option<Duration>,
}

impl Timer {
    /// A timer that looks into the store first of all.
    pub(crate) fn new(look_every: Option<Duration>) -> Self {
        Self { earliest: AtomicU64::new(0), schedules: AtomicU64::new(0), rearmed: Notify::new(), look_every }
    }

    /// A run is due at `at`.
    pub(crate) fn arm(&self, at: Timestamp) {
        self.bring_forward(&self.earliest, at);
    }

    /// A schedule is due at `at`.
    pub(crate) fn arm_schedules(&self, at: Timestamp) {
        self.bring_forward(&self.schedules, at);
    }

    /// What is due has to be looked up in the store.
    pub(crate) fn look_again(&self) {
        self.arm(Timestamp::EPOCH);
        self.arm_schedules(Timestamp::EPOCH);
    }

    fn bring_forward(&self, earliest: &AtomicU64, at: Timestamp) {
        let at = at.as_millis();
        if at < earliest.fetch_min(at, Ordering::SeqCst) {
            self.rearmed.notify_one();
        }
    }

    /// When anything is due.
    fn earliest(&self) -> u64 {
        self.earliest.load(Ordering::SeqCst).min(self.schedules.load(Ordering::SeqCst))
    }

    /// Waits until something is due by `clock`.
    async fn wait(&self, clock: &dyn Clock) {
        loop {
            let (earliest, now) = (self.earliest(), clock.now().as_millis());
            if earliest <= now {
                return;
            }
            let rearmed = self.rearmed.notified();
            if earliest == u64::MAX {
                rearmed.await;
            } else {
                let until = Duration::from_millis(earliest - now);
                let until = if clock.keeps_timers() { until } else { until.min(LONGEST_SLEEP) };
                // Either way the loop looks again.
                let _ = tokio::time::timeout(until, rearmed).await;
            }
        }
    }

    /// Does what is due by the server's clock.
    async fn fire(&self, lane: &LaneHandle, by_hand: bool) -> Result<(), aiki_core::ServerError> {
        loop {
            // What is armed from here on is kept.
            self.earliest.store(u64::MAX, Ordering::SeqCst);
            let done = lane.call(Due { limit: BATCH_LIMIT }).await?;
            self.arm(done.next.unwrap_or(Timestamp::MAX));
            let more = self.fire_schedules(lane, by_hand).await?;
            if !done.more && !more {
                return Ok(());
            }
            // A lane in the caller's own time never waits: let others have a turn.
            tokio::task::yield_now().await;
        }
    }

    /// Starts the runs of schedules, a commit's worth; answers whether there may be more. While no schedule is
    /// active this costs nothing. Whoever does it by hand waits behind what the server does by itself.
    async fn fire_schedules(&self, lane: &LaneHandle, by_hand: bool) -> Result<bool, aiki_core::ServerError> {
        let armed = self.schedules.swap(u64::MAX, Ordering::SeqCst) != u64::MAX;
        if !armed && !by_hand {
            return Ok(false);
        }
        let fired = lane.call(FireSchedules).await?;
        self.arm_schedules(if fired.more { Timestamp::EPOCH } else { fired.next.unwrap_or(Timestamp::MAX) });
        Ok(fired.more)
    }

    /// Runs for as long as the server does.
    pub(crate) async fn run(self: Arc<Self>, clock: Arc<dyn Clock>, lane: LaneHandle) {
        let (mut pause, mut looked) = (FIRST_PAUSE, Instant::now());
        loop {
            match self.look_every {
                None => self.wait(&*clock).await,
                // Also while timers of its own keep it busy.
                Some(every) => {
                    // Either way something is due, or the store is looked into.
                    let _ = tokio::time::timeout_at(looked + every, self.wait(&*clock)).await;
                    if looked.elapsed() >= every {
                        looked = Instant::now();
                        self.look_again();
                    }
                }
            }
            let (earliest, now) = (self.earliest(), clock.now());
            // 0 is no time: the store has to be looked into.
            if earliest > 0 {
                measure::due_lag(now.since(Timestamp::from_millis(earliest)));
            }
            match self.fire(&lane, false).await {
                Ok(()) => pause = FIRST_PAUSE,
                Err(error) => {
                    tracing::warn!(%error, "timers could not be served, trying again in {pause:?}");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    self.look_again();
                }
            }
        }
    }

    /// Does at once what is due by the server's clock: for clocks that are stepped by hand.
    pub(crate) async fn run_due(&self, lane: &LaneHandle) -> Result<(), aiki_core::ServerError> {
        self.fire(lane, true).await
    }
}
