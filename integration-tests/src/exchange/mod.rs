//! Replays recorded exchanges of the HTTP contract against a live server.
//!
//! A recording is a scenario that was played with the original workers and clients against the
//! original server. The runner sends the same requests in the order in which they took effect, puts
//! live ids where recorded ones were, waits for what timers do, and compares status, error code and
//! body. Times have to be plausible, messages are free, everything else has to be the same, but for
//! the differences in `differences.toml`.
//!
//! Scenarios run at the same time. Each gives its workflows and the references of its schedules a
//! prefix of its own, so that it shares nothing with others or with an earlier replay but the
//! namespace's lists (which are cut down to its own) and the system's workflow (scenarios that are
//! given its runs go one after the other; the others do not ask for it).

pub mod ahead;
mod claiming;
pub mod claims;
pub mod compare;
pub mod differences;
pub mod halves;
pub mod ids;
pub mod judge;
pub mod lists;
pub mod live;
pub mod names;
pub mod occurrences;
pub mod pace;
pub mod player;
pub mod recording;
pub mod report;
mod requests;
pub mod sleeps;
pub mod timeline;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{Instant, timeout};

use self::differences::Differences;
use self::live::Live;
use self::player::{Patience, Player};
use self::recording::Recording;
use self::report::{Fault, Outcome, Report};
use self::timeline::Timeline;

/// A scenario may take this long beyond its recording.
const LIMIT: Duration = Duration::from_secs(180);

/// How to replay.
#[derive(Debug, Clone)]
pub struct Options {
    /// Scenarios at a time; at least one.
    pub jobs: usize,
    /// How long to wait for daemons.
    pub patience: Patience,
    /// Goes into every prefix: another one for every replay against the same server.
    pub nonce: String,
}

/// Replays all recordings and calls `done` after each.
pub async fn replay(
    live: &Live,
    recordings: &[Recording],
    differences: &Differences,
    options: &Options,
    mut done: impl FnMut(&Report),
) -> Vec<Report> {
    let slots = Arc::new(Semaphore::new(options.jobs.max(1)));
    let system = Arc::new(Mutex::new(()));
    let mut running: FuturesUnordered<_> = recordings
        .iter()
        .enumerate()
        .map(|(place, recording)| {
            let (slots, system) = (Arc::clone(&slots), Arc::clone(&system));
            async move {
                // Those who wait for the system's workflow take no slot meanwhile.
                let alone = Timeline::of(recording).claims_system_runs();
                let _alone = if alone { Some(system.lock_owned().await) } else { None };
                let _slot = slots.acquire_owned().await;
                let prefix = format!("{}-{place}.", options.nonce);
                one(live, recording, differences, &prefix, options.patience).await
            }
        })
        .collect();
    let mut reports = Vec::new();
    while let Some(report) = running.next().await {
        done(&report);
        reports.push(report);
    }
    reports
}

async fn one(
    live: &Live,
    recording: &Recording,
    differences: &Differences,
    prefix: &str,
    patience: Patience,
) -> Report {
    let begun = Instant::now();
    let recorded = recording.exchanges.last().map_or(0, |last| last.received_at_ms);
    let outcome = if recording.needs_key() && live.key().is_none() {
        Outcome::Skipped("recorded with an API key; give one with --api-key".to_owned())
    } else {
        let player = Player::new(live, recording, differences, prefix, patience);
        let limit = Duration::from_millis(recorded) + LIMIT;
        timeout(limit, player.play()).await.unwrap_or_else(|_| Outcome::Differs(vec![Fault::too_late(limit)]))
    };
    Report { scenario: recording.scenario.clone(), outcome, took: begun.elapsed() }
}
