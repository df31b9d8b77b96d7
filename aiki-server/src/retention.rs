//! Forgetting runs that ended long ago: a few rows at a time, and never while requests queue up.

use std::sync::Arc;
use std::time::Duration;

use aiki_core::{Clock, RunId, ServerError, Timestamp};

use crate::lane::LaneHandle;
use crate::operation::Retire;
use crate::readers::Readers;

/// At most so many runs leave in one commit.
const BATCH_LIMIT: usize = 100;
/// Pause between two commits.
const PAUSE: Duration = Duration::from_millis(20);
/// With more requests than this in the lane's queue, the next commit waits.
const QUEUE_LIMIT: usize = 64;
/// So many pauses later it is left for the next time.
const PATIENCE: u32 = 500;
/// How often the store is looked through: every tenth of the time that runs are kept, within these limits.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Forgets runs whose time is over.
#[derive(Debug)]
pub(crate) struct Retention {
    keep: Duration,
}

impl Retention {
    pub(crate) fn new(keep: Duration) -> Self {
        Self { keep }
    }

    /// What ended then, or before, may go.
    fn until(&self, now: Timestamp) -> Option<Timestamp> {
        let keep = u64::try_from(self.keep.as_millis()).ok()?;
        now.as_millis().checked_sub(keep).map(Timestamp::from_millis)
    }

    /// Forgets what may go by now; answers how many runs that were.
    pub(crate) async fn sweep(
        &self,
        now: Timestamp,
        readers: &Readers,
        lane: &LaneHandle,
    ) -> Result<usize, ServerError> {
        let Some(until) = self.until(now) else { return Ok(0) };
        let mut after = (Timestamp::EPOCH, RunId::from_bits(0));
        let mut count = 0;
        loop {
            let listed = readers.read(move |store| store.ended(until, after, BATCH_LIMIT)).await?;
            let Some((last, _)) = listed.last() else { return Ok(count) };
            after = *last;
            if !free(lane).await {
                return Ok(count);
            }
            let full = listed.len() == BATCH_LIMIT;
            let runs = listed.into_iter().map(|((_, run), namespace)| (namespace, run)).collect();
            count += lane.call(Retire { runs, until }).await?;
            if !full {
                return Ok(count);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Runs for as long as the server does.
    pub(crate) async fn run(self: Arc<Self>, clock: Arc<dyn Clock>, readers: Readers, lane: LaneHandle) {
        let wait = (self.keep / 10).clamp(SHORTEST_WAIT, LONGEST_WAIT);
        loop {
            match self.sweep(clock.now(), &readers, &lane).await {
                Ok(0) => {}
                Ok(runs) => tracing::info!(runs, "forgot runs that ended long ago"),
                Err(error) => tracing::warn!(%error, "ended runs could not be forgotten, trying again in {wait:?}"),
            }
            tokio::time::sleep(wait).await;
        }
    }
}

/// Waits until few requests queue; answers whether that came.
async fn free(lane: &LaneHandle) -> bool {
    for _ in 0..PATIENCE {
        if lane.waiting() <= QUEUE_LIMIT {
            return true;
        }
        tokio::time::sleep(PAUSE).await;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_old_enough_before_the_time_that_runs_are_kept() {
        let day = Retention::new(Duration::from_secs(86_400));
        assert_eq!(day.until(Timestamp::from_millis(86_399_999)), None);
        assert_eq!(day.until(Timestamp::from_millis(86_400_001)), Some(Timestamp::from_millis(1)));
        assert_eq!(Retention::new(Duration::MAX).until(Timestamp::MAX), None);
    }
}
