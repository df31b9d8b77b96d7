//! Hearing from the server what happens to the runs that are held here, and telling it what is served.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aiki_core::server_client::WorkerServes;
use tokio::time::{Instant, sleep};

use super::leases::prolong;
use crate::active::Active;
use crate::batch::MAX_ITEMS;
use crate::worker::Shared;

/// The server is asked again after this time.
const LONG_POLL: Duration = Duration::from_secs(20);
/// What is served is told again after this time.
const TELL_EVERY: Duration = Duration::from_secs(30);
/// Pause after a failure; doubles up to [`LONGEST_PAUSE`]. Short, because this is how the server sees that a worker
/// whose connection broke is still there.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// A server that has no news and says so sooner is about to stop: it keeps no question.
const KEPT: Duration = Duration::from_secs(1);

pub(super) async fn keep(shared: &Shared) -> Infallible {
    let mut control = shared.control.subscribe();
    let mut pause = FIRST_PAUSE;
    let mut told: Option<(u64, Instant)> = None;
    // News are told once: after an answer that was lost, and after a restart of the server, some may be missing.
    let mut missed = false;
    loop {
        let version = control.borrow_and_update().registry_version;
        if told.is_none_or(|(known, at)| known != version || at.elapsed() >= TELL_EVERY) {
            let serves = WorkerServes { workflows: shared.registry.served(), pools: shared.pools.clone() };
            if shared.server().announce_worker(&shared.name, serves).await.is_ok() {
                told = Some((version, Instant::now()));
                shared.announced.store(true, Ordering::Relaxed);
            }
        }
        if missed && told.is_some() {
            missed = false;
            let active = shared.active.all();
            if !active.is_empty() {
                look(shared, &active).await;
            }
        }
        let asked = Instant::now();
        let news = tokio::select! {
            biased;
            news = shared.server().await_news(&shared.name, LONG_POLL) => news,
            changed = control.changed() => match changed {
                Ok(()) => continue,
                Err(_) => std::future::pending().await,
            },
        };
        match news {
            Ok(runs) => {
                shared.server_reach.answered();
                if runs.is_empty() && asked.elapsed() < KEPT {
                    rest(&mut pause).await;
                    continue;
                }
                pause = FIRST_PAUSE;
                let active: Vec<_> = runs.into_iter().filter_map(|run| shared.active.get(run)).collect();
                if !active.is_empty() {
                    look(shared, &active).await;
                }
            }
            Err(error) => {
                shared.server_reach.refused(&error);
                // Told again, the server is known to listen.
                (missed, told) = (true, None);
                if asked.elapsed() > pause * 2 {
                    // The line stood meanwhile: this is another break and no longer one.
                    pause = FIRST_PAUSE;
                }
                rest(&mut pause).await;
            }
        }
    }
}

async fn rest(pause: &mut Duration) {
    sleep(*pause).await;
    *pause = (*pause * 2).min(LONGEST_PAUSE);
}

/// Asks whether the claims still stand: what is gone ends at once. The others have signals, and so may
/// those whose question failed: signals have no second messenger.
async fn look(shared: &Shared, active: &[Arc<Active>]) {
    let deadline = Instant::now() + shared.settings.heartbeat;
    for some in active.chunks(MAX_ITEMS) {
        // A refusal shows at the next heartbeat.
        let _ = prolong(shared, some, deadline).await;
    }
    active.iter().for_each(|active| active.watch.bring_news());
}
