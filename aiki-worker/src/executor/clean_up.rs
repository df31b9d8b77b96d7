//! What is left of a pass once it is cut short: the bodies of its tasks may clean up.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use aiki_core::CancellationToken;
use aiki_core::replay::PassStep;
use tokio::task::coop;
use tokio::time::timeout;

use super::drive::Drive;
use crate::heartbeat::fence;

/// How long bodies may clean up when the worker stops. Less than the worker then waits for passes.
pub(super) const STOPPED: Duration = Duration::from_millis(400);
/// How long bodies may clean up when the claim is lost, at most.
const LOST: Duration = Duration::from_millis(100);
/// So many steps of a pass that is cut short are made at most.
const STEPS: u32 = 1_024;

/// How long bodies may clean up after the claim was lost: they are done before the lease has lapsed and
/// another worker may begin.
pub(crate) fn after_loss(lease: Duration) -> Duration {
    LOST.min(lease.saturating_sub(fence(lease)) / 2)
}

impl Drive<'_> {
    /// Tells the bodies that are under way, and polls them until they have ended, at most for `limit`.
    /// Then the handler's future is dropped. Whatever the pass brings forward is thrown away.
    pub(super) async fn clean_up(&mut self, limit: Duration, cut: Option<&CancellationToken>) {
        self.clock.stop();
        self.handler.surround(false, || self.pass.cancellation().cancel());
        // Before that a body would only begin.
        if self.live {
            self.tidy(limit, cut).await;
        }
        self.handler.surround(false, || self.pass.rejected());
    }

    async fn tidy(&mut self, limit: Duration, cut: Option<&CancellationToken>) {
        let mut cut = cut.map(CancellationToken::cancelled);
        let mut left = STEPS;
        let ended = poll_fn(|cx| {
            if cut.as_mut().is_some_and(|cut| Pin::new(cut).poll(cx).is_ready()) {
                return Poll::Ready(());
            }
            self.wind_down(cx, &mut left)
        });
        // Late or not, it is over.
        drop(timeout(limit, ended).await);
    }

    fn wind_down(&mut self, cx: &mut Context<'_>, left: &mut u32) -> Poll<()> {
        while *left > 0 {
            *left -= 1;
            match self.poll_pass(cx) {
                // A report that is never answered: no step that waits for it begins.
                PassStep::Again | PassStep::Report(_) if coop::has_budget_remaining() => {}
                PassStep::Again | PassStep::Report(_) => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                PassStep::Wait { .. } if self.pass.executes() => return Poll::Pending,
                // No body is under way. What they brought forward waits for an answer that does not come.
                PassStep::Wait { .. } | PassStep::Close(_) => return Poll::Ready(()),
            }
        }
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleaning_up_after_a_loss_ends_before_the_lease() {
        for ms in [100, 800, 5_000, 60_000] {
            let lease = Duration::from_millis(ms);
            assert!(fence(lease) + after_loss(lease) < lease, "{lease:?}");
        }
        assert_eq!(after_loss(Duration::from_secs(60)), LOST);
    }
}
