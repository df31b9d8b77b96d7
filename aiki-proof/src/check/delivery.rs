//! Deliveries and gauges.

use std::collections::BTreeMap;

use aiki_core::{Name, RunId};

use super::{Case, Invariant, Violation};
use crate::history::What;

impl Case<'_> {
    /// I9, I10, I15.
    pub(super) fn delivery(&mut self) {
        self.acknowledgements();
        let outcome: Vec<_> =
            self.end.runs.iter().filter_map(|(run, shown)| Some((*run, shown.as_ref().ok()?))).collect();
        for (run, shown) in outcome {
            let state = &shown.record.state;
            let queued = state.status().as_str() == "queued";
            let Some(rows) = self.views.announcements(run) else { continue };
            if rows > usize::from(queued) {
                self.broken(9, run, format!("it is {} and {rows} rows announce it", state.status()));
            }
        }
        for gauge in self.views.gauges() {
            if gauge.now > gauge.baseline {
                self.broken(15, None, format!("{} is {}, not {} as before", gauge.name, gauge.now, gauge.baseline));
            }
        }
    }

    /// A delivery is acknowledged only when, since it came, the server has said that the run is done, or has
    /// written the end of a claim of that worker, or has taken it away; or when the worker has itself let go of
    /// a claim that a fault has kept it from prolonging. It counts its lease from when it asked for the claim.
    fn acknowledgements(&mut self) {
        let mut came: BTreeMap<(&Name, &str), usize> = BTreeMap::new();
        let mut words: BTreeMap<(&Name, RunId), Word> = BTreeMap::new();
        let mut shaken: BTreeMap<&Name, (usize, u64)> = BTreeMap::new();
        let mut shaken_all = None;
        let lease = self.bounds.lease.as_millis() as u64;
        for (at, happened) in self.history.iter().enumerate() {
            match &happened.what {
                What::Delivered { worker, receipt, .. } => {
                    came.entry((worker, receipt)).or_insert(at);
                }
                What::Granted { run, worker, .. } => {
                    words.entry((worker, *run)).or_default().granted.push((at, happened.at));
                }
                What::Done { run, worker } | What::Refused { run, worker, .. } | What::Lost { run, worker, .. } => {
                    words.entry((worker, *run)).or_default().over = at;
                }
                What::Reported { run, worker, written, .. } if written.closes => {
                    words.entry((worker, *run)).or_default().over = at;
                }
                What::Fault { worker: Some(worker), .. } => {
                    shaken.insert(worker, (at, happened.at));
                }
                What::Fault { worker: None, .. } => shaken_all = Some((at, happened.at)),
                What::Acked { run, worker, receipt } => {
                    let came = came.remove(&(worker, receipt.as_str())).unwrap_or_default();
                    let word = words.entry((worker, *run)).or_default();
                    let shaken = shaken.get(worker).copied().max(shaken_all);
                    let mut granted = word.granted.iter().filter(|(granted, _)| *granted > came);
                    let worked = granted.clone().next().is_some();
                    let let_go = granted.any(|(granted, when)| {
                        shaken.is_some_and(|(place, time)| place > *granted || time + lease >= *when)
                    });
                    if word.over < came && !let_go {
                        let text = match worked {
                            true => "while it worked on it",
                            false => "before the server had said anything",
                        };
                        let text = format!("{worker} acknowledged delivery {receipt} {text}");
                        self.found.push(Violation { invariant: Invariant(10), run: Some(*run), text });
                    }
                }
                _ => {}
            }
        }
    }
}

/// When the server last said something to a worker about a run.
#[derive(Default)]
struct Word {
    granted: Vec<(usize, u64)>,
    over: usize,
}
