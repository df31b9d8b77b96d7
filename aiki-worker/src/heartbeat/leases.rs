//! Prolonging claims, and stopping handlers whose claim is gone or can no longer be relied on.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use aiki_core::server_client::{ClaimRef, ClaimStatus};
use tokio::time::{Instant, sleep, timeout};

use crate::active::Active;
use crate::trace;
use crate::worker::Shared;

/// After a failed refresh the next one comes this much of a heartbeat later.
const RETRY_PART: u32 = 4;

/// How long after the last confirmed send a claim can be relied on.
pub(crate) fn fence(lease: Duration) -> Duration {
    lease.saturating_sub(Duration::from_secs(2).min(lease / 8))
}

pub(super) async fn keep(shared: &Shared) -> Infallible {
    let settings = &shared.settings;
    let fence = fence(settings.lease);
    let (mut next_beat, mut failures) = (Instant::now() + settings.heartbeat, 0);
    loop {
        let fenced = shared.active.all().iter().map(|active| remaining(shared, active, fence)).min();
        let until_beat = next_beat.saturating_duration_since(Instant::now());
        sleep(fenced.map_or(until_beat, |fenced| fenced.min(until_beat))).await;
        cut_off(shared, fence);
        if Instant::now() < next_beat {
            continue;
        }
        let active: Vec<Arc<Active>> =
            shared.active.all().into_iter().filter(|active| !active.scope.lost.is_cancelled()).collect();
        let healthy = active.is_empty() || refresh(shared, &active, fence, &mut failures).await;
        cut_off(shared, fence);
        next_beat = Instant::now() + if healthy { settings.heartbeat } else { settings.heartbeat / RETRY_PART };
    }
}

/// Prolongs all claims in one call. Whether the server answered.
async fn refresh(shared: &Shared, active: &[Arc<Active>], fence: Duration, failures: &mut u32) -> bool {
    let claims: Vec<ClaimRef> = active.iter().map(|active| active.claim).collect();
    let first_fenced = active.iter().map(|active| remaining(shared, active, fence)).min().unwrap_or(fence);
    let limit = shared.settings.heartbeat.min(first_fenced);
    let sent = shared.active.ticks.now();
    let call = shared.server().refresh_runs(&shared.name, &claims, shared.settings.lease);
    let statuses = match timeout(limit, call).await {
        Ok(Ok(statuses)) => statuses,
        Ok(Err(error)) => {
            *failures += 1;
            trace::refresh_failed(shared.name.as_str(), &error, *failures);
            return false;
        }
        Err(elapsed) => {
            *failures += 1;
            trace::refresh_failed(shared.name.as_str(), &elapsed, *failures);
            return false;
        }
    };
    *failures = 0;
    for (active, status) in active.iter().zip(statuses) {
        match status {
            ClaimStatus::Held => active.confirm(sent),
            // A pass that has just ended is no longer active: its claim is gone for a good reason.
            ClaimStatus::Lost if shared.active.get(active.claim.run).is_some_and(|now| Arc::ptr_eq(&now, active)) => {
                trace::claim_lost(active.claim.run);
                active.scope.lost.cancel();
            }
            ClaimStatus::Lost => {}
        }
    }
    true
}

/// Time until the claim can no longer be relied on. Runs that were stopped do not count.
fn remaining(shared: &Shared, active: &Active, fence: Duration) -> Duration {
    if active.scope.lost.is_cancelled() {
        return Duration::MAX;
    }
    fence.saturating_sub(shared.active.ticks.since(active.confirmed()).unwrap_or_default())
}

/// Stops handlers whose claim can no longer be relied on: another worker may have the run by now.
fn cut_off(shared: &Shared, fence: Duration) {
    for active in shared.active.all() {
        if remaining(shared, &active, fence).is_zero() {
            trace::fenced(active.claim.run);
            active.scope.lost.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fence_falls_before_the_lease_ends() {
        assert_eq!(fence(Duration::from_secs(60)), Duration::from_secs(58));
        assert_eq!(fence(Duration::from_secs(8)), Duration::from_secs(7));
        assert_eq!(fence(Duration::from_millis(800)), Duration::from_millis(700));
    }
}
