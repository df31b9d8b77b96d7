//! Hearing from the server what happens to the runs that are held here, and telling it what is served.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use aiki_core::server_client::{ClaimRef, ClaimStatus, WorkerServes};
use tokio::time::{Instant, sleep};

use crate::active::Active;
use crate::trace;
use crate::worker::Shared;

/// The server is asked again after this time.
const LONG_POLL: Duration = Duration::from_secs(20);
/// What is served is told again after this time.
const TELL_EVERY: Duration = Duration::from_secs(30);
/// Pause after a failure; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

pub(super) async fn keep(shared: &Shared) -> Infallible {
    let mut control = shared.control.subscribe();
    let mut pause = FIRST_PAUSE;
    let mut told: Option<(u64, Instant)> = None;
    loop {
        let version = control.borrow_and_update().registry_version;
        if told.is_none_or(|(known, at)| known != version || at.elapsed() >= TELL_EVERY) {
            let serves = WorkerServes { workflows: shared.registry.served(), pools: shared.pools.clone() };
            if shared.server().announce_worker(&shared.name, serves).await.is_ok() {
                told = Some((version, Instant::now()));
            }
        }
        let news = tokio::select! {
            news = shared.server().await_news(&shared.name, LONG_POLL) => news,
            changed = control.changed() => match changed {
                Ok(()) => continue,
                Err(_) => std::future::pending().await,
            },
        };
        match news {
            Ok(runs) => {
                pause = FIRST_PAUSE;
                let active: Vec<_> = runs.into_iter().filter_map(|run| shared.active.get(run)).collect();
                if !active.is_empty() {
                    look(shared, &active).await;
                }
            }
            Err(_) => {
                // The heartbeats say what is wrong.
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Asks whether the claims still stand: those that are gone end at once, the others have signals.
async fn look(shared: &Shared, active: &[Arc<Active>]) {
    let claims: Vec<ClaimRef> = active.iter().map(|active| active.claim).collect();
    let sent = shared.active.ticks.now();
    let answer = shared.server().refresh_runs(&shared.name, &claims, shared.settings.lease).await;
    let Ok(statuses) = answer else {
        // A claim that is gone shows at the next heartbeat. Signals have no second messenger.
        active.iter().for_each(|active| active.watch.bring_news());
        return;
    };
    for (active, status) in active.iter().zip(statuses) {
        match status {
            ClaimStatus::Held => {
                active.confirm(sent);
                active.watch.bring_news();
            }
            // A pass that has just ended is no longer active: its claim is gone for a good reason.
            ClaimStatus::Lost if shared.active.get(active.claim.run).is_some_and(|now| Arc::ptr_eq(&now, active)) => {
                trace::claim_lost(active.claim.run);
                active.scope.lost.cancel();
            }
            ClaimStatus::Lost => {}
        }
    }
}
