//! Everything comes to rest, and what there is to see then.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aiki::{Client, Payload, RunId};
use aiki_core::Name;
use aiki_core::listing::RunFilter;
use aiki_core::run::RunStatus;
use aiki_core::run::plan::RunCommand;
use aiki_core::run::record::{TransitionChange, TransitionRecord};
use aiki_core::run::{RunState, TaskState};
use aiki_core::{TaskId, Timestamp};
use aiki_proof::end::{End, Gauge, Shown, Views};
use futures::StreamExt;
use tokio::time::{Instant, sleep};

use super::house::Broken;
use super::notes::{Note, Notes};
use super::profile::PATIENCE;
use super::streams::Found;

/// Runs that are looked at at the same time.
const LOOKING: usize = 16;
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// Waits until every run has ended; sends parked ones back to work. Answers after how long, or `None` when they have
/// not in good time. Good time begins anew while runs end.
///
/// # Errors
/// When the server does not answer any more.
pub async fn all_ended(client: &Client, notes: &Notes) -> Result<Option<Duration>, Broken> {
    let begun = Instant::now();
    let (mut progress, mut least) = (Instant::now(), u64::MAX);
    loop {
        let counts = match client.run_stats(None).await {
            Err(error) if error.is_transient() && progress.elapsed() < PATIENCE => {
                sleep(PAUSE).await;
                continue;
            }
            other => other?,
        };
        let open: u64 = counts.iter().filter(|(status, _)| !status.is_terminal()).map(|(_, count)| count).sum();
        if open == 0 {
            return Ok(Some(begun.elapsed()));
        }
        if open < least {
            (progress, least) = (Instant::now(), open);
        }
        if progress.elapsed() > PATIENCE {
            return Ok(None);
        }
        if counts.of(RunStatus::Stalled) > 0 {
            send_back(client, notes).await?;
        }
        sleep(PAUSE).await;
    }
}

/// Sends parked runs back to work.
///
/// # Errors
/// When the server does not answer.
pub async fn send_back(client: &Client, notes: &Notes) -> Result<(), Broken> {
    let mut parked = client.list_runs(RunFilter { statuses: vec![RunStatus::Stalled], ..RunFilter::default() });
    while let Some(run) = parked.next().await? {
        notes.write(Note::Intervened { run: run.id });
        // It may have been sent back by a call whose answer was lost.
        let _ = client.server().command_run(run.id, RunCommand::Requeue).await;
    }
    Ok(())
}

/// What the server shows of all runs that anybody has heard of, and the keys that it shows more than once.
///
/// # Errors
/// When the server does not answer.
pub async fn end(client: &Client, known: BTreeSet<RunId>) -> Result<(End, Vec<String>), Broken> {
    let mut wanted = known;
    let mut keys: BTreeMap<String, u64> = BTreeMap::new();
    let mut listed = client.list_runs(RunFilter::default()).page_size(500);
    while let Some(run) = listed.next().await? {
        wanted.insert(run.id);
        if let Some(key) = run.reference_id {
            *keys.entry(key).or_default() += 1;
        }
    }
    let looks = futures::stream::iter(wanted).map(|run| async move { (run, client.export(run).await) });
    let looks: Vec<_> = looks.buffer_unordered(LOOKING).collect().await;
    let mut end = End { now: Timestamp::from_millis(super::notes::wall_ms()), ..End::default() };
    for (run, export) in looks {
        let shown = export.map(|export| Shown { record: export.record(), transitions: export.transitions() });
        end.runs.insert(run, shown);
    }
    let twice = keys.into_iter().filter(|(_, count)| *count > 1).map(|(key, _)| key).collect();
    Ok((end, twice))
}

/// When the results of the tasks were recorded, in milliseconds since the Unix epoch.
pub fn recorded(transitions: &[TransitionRecord]) -> impl Iterator<Item = (TaskId, u64)> {
    transitions.iter().filter_map(|transition| match &transition.change {
        TransitionChange::Task(task, TaskState::Completed { .. } | TaskState::Failed { .. }) => {
            Some((*task, transition.created_at.as_millis()))
        }
        _ => None,
    })
}

/// The answer of a run that completed.
pub fn answered(state: &RunState) -> Option<u64> {
    match state {
        RunState::Completed { output: Some(output) } => Payload::decode(Some(output)).ok(),
        _ => None,
    }
}

/// What was counted behind the public client.
#[derive(Debug, Default)]
pub struct Counted {
    /// What was found in Redis when all workers had stopped.
    pub redis: Found,
    /// What has to be back where it was.
    pub gauges: Vec<Gauge>,
}

impl Views for Counted {
    fn announcements(&self, _: RunId) -> Option<usize> {
        None
    }

    fn held_by(&self, worker: &Name) -> Option<usize> {
        // A consumer is called as its worker with the number of its start behind.
        let own = |name: &str| name.split_once(':').is_some_and(|(id, _)| id == worker.as_str());
        let held = self.redis.consumers.iter().filter(|(name, _)| own(name)).map(|(_, held)| *held as usize);
        Some(held.sum())
    }

    fn gauges(&self) -> Vec<Gauge> {
        self.gauges.clone()
    }
}
