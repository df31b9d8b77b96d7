//! Prolonging claims, and stopping handlers whose claim is gone or can no longer be relied on.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use aiki_core::ServerError;
use aiki_core::server_client::{ClaimRef, ClaimStatus};
use tokio::time::{Instant, sleep, timeout_at};

use crate::active::Active;
use crate::batch::{MAX_ITEMS, call_all};
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
        let beat = refresh(shared, &active, fence).await;
        failures = beat.tell(shared, failures);
        cut_off(shared, fence);
        let pause = if failures == 0 { settings.heartbeat } else { settings.heartbeat / RETRY_PART };
        next_beat = Instant::now() + pause;
    }
}

/// What came of prolonging all claims.
#[derive(Default)]
struct Beat {
    /// The last call that failed and may succeed later.
    failed: Option<String>,
    /// The last call that was refused for good, and how many claims were.
    refused: Option<ServerError>,
    refused_claims: usize,
}

impl Beat {
    /// Says what went wrong and holds intake up while claims are refused. Failures in a row.
    fn tell(self, shared: &Shared, failures: u32) -> u32 {
        let worker = shared.name.as_str();
        let refused = self.refused.is_some();
        shared.control.send_if_modified(|control| std::mem::replace(&mut control.refused, refused) != refused);
        if let Some(error) = &self.refused {
            trace::refresh_refused(worker, error, self.refused_claims);
        }
        if let Some(error) = &self.failed {
            trace::refresh_failed(worker, error, failures.saturating_add(1));
        }
        if refused || self.failed.is_some() { failures.saturating_add(1) } else { 0 }
    }
}

/// Prolongs all claims, in as few calls as the server takes. All of them together end before the first
/// claim could no longer be relied on.
async fn refresh(shared: &Shared, active: &[Arc<Active>], fence: Duration) -> Beat {
    let first_fenced = active.iter().map(|active| remaining(shared, active, fence)).min().unwrap_or(fence);
    let deadline = Instant::now() + shared.settings.heartbeat.min(first_fenced);
    let calls = active.chunks(MAX_ITEMS).map(|active| prolong(shared, active, deadline));
    let mut beat = Beat::default();
    for result in call_all(calls).await {
        match result {
            Ok(()) => {}
            Err(Trouble::Passing(error)) => beat.failed = Some(error),
            Err(Trouble::Lasting(error, claims)) => {
                beat.refused = Some(error);
                beat.refused_claims += claims;
            }
        }
    }
    beat
}

pub(super) enum Trouble {
    Passing(String),
    /// The server's word on so many claims.
    Lasting(ServerError, usize),
}

/// Prolongs these claims in one call.
pub(super) async fn prolong(shared: &Shared, active: &[Arc<Active>], deadline: Instant) -> Result<(), Trouble> {
    let claims: Vec<ClaimRef> = active.iter().map(|active| active.claim).collect();
    let sent = shared.active.ticks.now();
    let call = shared.server().refresh_runs(&shared.name, &claims, shared.settings.lease);
    let statuses = match timeout_at(deadline, call).await {
        Ok(Ok(statuses)) => {
            shared.server_reach.answered();
            statuses
        }
        Ok(Err(error)) if error.is_transient() => {
            shared.server_reach.refused(&error);
            return Err(Trouble::Passing(error.to_string()));
        }
        Ok(Err(error)) => return Err(Trouble::Lasting(error, claims.len())),
        Err(elapsed) => {
            shared.server_reach.failed(&"it has not answered while claims were prolonged");
            return Err(Trouble::Passing(elapsed.to_string()));
        }
    };
    for (active, status) in active.iter().zip(statuses) {
        match status {
            ClaimStatus::Held => active.confirm(sent),
            // Its own last report may have been quicker than this answer: what becomes of that report tells.
            ClaimStatus::Lost if active.watch.is_closing() => {}
            // A pass that has just ended is no longer active: its claim is gone for a good reason.
            ClaimStatus::Lost if shared.active.get(active.claim.run).is_some_and(|now| Arc::ptr_eq(&now, active)) => {
                trace::claim_lost(active.claim.run);
                active.scope.lost.cancel();
            }
            ClaimStatus::Lost => {}
        }
    }
    Ok(())
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
