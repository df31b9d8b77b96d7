//! Commits of which it is not known whether they took effect: the answer was lost.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// So long after its answer was lost, a commit may still take effect: longer than a statement of a store may take.
const LASTS: Duration = Duration::from_secs(15);

/// Whether there were such commits lately.
#[derive(Debug, Default)]
pub(crate) struct Doubt {
    since: Mutex<Option<Instant>>,
    arose: Notify,
}

impl Doubt {
    /// The answer to a commit was lost.
    pub(crate) fn arise(&self) {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.arose.notify_one();
    }

    /// Whether a commit of this server may take effect without its knowing.
    #[cfg(feature = "postgres")]
    pub(crate) fn lasts(&self) -> bool {
        let since = *self.since.lock().unwrap_or_else(PoisonError::into_inner);
        since.is_some_and(|since| since.elapsed() < LASTS)
    }

    /// Waits for the next answer that is lost; one that was lost before counts. Cancel-safe.
    #[cfg(feature = "postgres")]
    pub(crate) async fn arose(&self) {
        self.arose.notified().await;
    }
}

#[cfg(all(test, feature = "postgres"))]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_doubt_is_heard_once_and_lasts_for_a_while() {
        let doubt = Doubt::default();
        assert!(!doubt.lasts());
        doubt.arise();
        doubt.arose().await;
        assert!(tokio::time::timeout(LASTS / 2, doubt.arose()).await.is_err());
        assert!(doubt.lasts());
        tokio::time::sleep(LASTS / 2).await;
        assert!(!doubt.lasts());
    }
}
