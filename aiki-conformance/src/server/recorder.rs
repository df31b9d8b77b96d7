//! A publisher that remembers.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aiki_core::{PublishReport, Publisher, ReadyRun, RunId};
use async_trait::async_trait;
use tokio::sync::Notify;

/// How long the suite waits for an announcement before it gives up.
const PATIENCE: Duration = Duration::from_secs(10);

/// Remembers what was announced.
#[derive(Debug, Default)]
pub struct Recorder {
    runs: Mutex<Vec<ReadyRun>>,
    more: Notify,
}

impl Recorder {
    fn runs(&self) -> MutexGuard<'_, Vec<ReadyRun>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often a run was announced so far.
    pub fn count(&self, run: RunId) -> usize {
        self.runs().iter().filter(|ready| ready.id == run).count()
    }

    /// Waits until a run was announced `times` times in all; answers the latest announcement.
    ///
    /// # Panics
    /// When that does not happen.
    pub async fn announced(&self, run: RunId, times: usize) -> ReadyRun {
        let wait = async {
            loop {
                let more = self.more.notified();
                tokio::pin!(more);
                more.as_mut().enable();
                let latest = self.runs().iter().filter(|ready| ready.id == run).nth(times - 1).cloned();
                match latest {
                    Some(ready) => return ready,
                    None => more.await,
                }
            }
        };
        let found = tokio::time::timeout(PATIENCE, wait).await;
        assert!(found.is_ok(), "run {run} was announced {} times instead of {times}", self.count(run));
        found.unwrap_or_else(|_| unreachable!())
    }
}

#[async_trait]
impl Publisher for Recorder {
    async fn publish(&self, runs: &[ReadyRun]) -> PublishReport {
        self.runs().extend_from_slice(runs);
        self.more.notify_waiters();
        PublishReport::default()
    }
}
