//! Who may write a run: epochs and claims.

use std::collections::{BTreeMap, BTreeSet};

use aiki_core::run::plan::POISON_LIMIT;
use aiki_core::{Name, RunId};

use super::Case;
use crate::history::What;

/// What is known of the claims on one run.
#[derive(Default)]
struct Claims {
    granted: u64,
    /// Accepted reports by epoch and number: a repetition changes nothing.
    accepted: BTreeSet<(u64, u64)>,
    last_epoch: u64,
    in_vain: u32,
    owner: Option<Name>,
    cancelled: bool,
}

impl Case<'_> {
    /// I5, I6, I12, I13.
    pub(super) fn claims(&mut self) {
        let mut runs: BTreeMap<RunId, Claims> = BTreeMap::new();
        for happened in self.history {
            match &happened.what {
                What::Granted { run, epoch, worker } => {
                    let claims = runs.entry(*run).or_default();
                    // The answer to the same claim may have been lost.
                    claims.in_vain += u32::from(claims.owner.as_ref() != Some(worker) || claims.in_vain == 0);
                    claims.owner = Some(worker.clone());
                    let (before, in_vain) = (claims.granted, claims.in_vain);
                    claims.granted = before.max(*epoch);
                    if *epoch <= before {
                        self.broken(5, *run, format!("epoch {epoch} was granted to {worker} after epoch {before}"));
                    }
                    if in_vain > POISON_LIMIT {
                        self.broken(12, *run, format!("it was claimed {in_vain} times in a row without progress"));
                    }
                }
                What::Released { run, .. } => {
                    let claims = runs.entry(*run).or_default();
                    claims.in_vain = claims.in_vain.saturating_sub(1);
                }
                What::Intervened { run } => runs.entry(*run).or_default().in_vain = 0,
                What::Cancelled { run } => runs.entry(*run).or_default().cancelled = true,
                What::Reported { run, epoch, seq, worker, written } => {
                    let claims = runs.entry(*run).or_default();
                    claims.in_vain = 0;
                    if !claims.accepted.insert((*epoch, *seq)) {
                        continue;
                    }
                    let (granted, last, cancelled) = (claims.granted, claims.last_epoch, claims.cancelled);
                    claims.last_epoch = last.max(*epoch);
                    if *epoch < granted {
                        let text =
                            format!("report {seq} of epoch {epoch} by {worker} was accepted after epoch {granted}");
                        self.broken(5, *run, format!("{text} was granted"));
                    }
                    if *epoch < last {
                        self.broken(6, *run, format!("epoch {epoch} wrote between reports of epoch {last}"));
                    }
                    if cancelled && let Some((task, _)) = written.ended.iter().find(|(_, well)| *well) {
                        self.broken(
                            13,
                            *run,
                            format!("the success of task {task} was recorded after the cancellation"),
                        );
                    }
                }
                _ => {}
            }
        }
    }
}
