//! Noticing handlers that do not yield.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::sleep;

use crate::active::{Ticks, Watch};
use crate::trace;
use crate::worker::Shared;

/// A poll of a handler that lasts longer deserves a warning.
const LONG_POLL: Duration = Duration::from_secs(5);
/// How often polls are looked at.
const LOOK: Duration = Duration::from_secs(1);

pub(super) async fn watch(shared: &Shared) -> Infallible {
    loop {
        sleep(LOOK).await;
        shared.meter.oldest_lease(shared.active.oldest_lease());
        for active in shared.active.all() {
            if let Some(lasted) = overdue(&active.watch, shared.active.ticks) {
                let place = trace::place(active.watch.last_call());
                trace::long_poll(active.claim.run, &active.workflow, lasted, &place);
            }
        }
    }
}

/// How long the present poll has lasted, if that is too long and was not told yet.
fn overdue(watch: &Watch, ticks: Ticks) -> Option<Duration> {
    let lasted = ticks.since(watch.polling_since())?;
    (lasted > LONG_POLL && watch.tell_long_poll()).then_some(lasted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_long_poll_is_told_once_and_a_long_wait_never() {
        let (watch, ticks) = (Watch::default(), Ticks::new());
        sleep(Duration::from_secs(60)).await;
        assert_eq!(overdue(&watch, ticks), None, "it is not being polled");
        watch.poll_begins(ticks.now());
        sleep(LONG_POLL).await;
        assert_eq!(overdue(&watch, ticks), None, "too early");
        sleep(Duration::from_secs(1)).await;
        assert_eq!(overdue(&watch, ticks), Some(Duration::from_secs(6)));
        assert_eq!(overdue(&watch, ticks), None, "told twice");
        watch.poll_ends();
        assert_eq!(overdue(&watch, ticks), None);
    }
}
