//! Deliveries and gauges.

use std::collections::BTreeMap;

use aiki_core::{Name, RunId};

use super::Case;
use crate::history::What;

/// Where a delivery stands for the worker that has it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    /// The server has said nothing yet.
    None,
    /// The worker has the run.
    Working(u64),
    /// The server needs the delivery no more.
    Over,
}

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

    /// A delivery is acknowledged only when the server has said that the run is done, or has written the end
    /// of the claim that the worker made for it, or has taken that claim away.
    fn acknowledgements(&mut self) {
        let mut words: BTreeMap<(Name, RunId), Word> = BTreeMap::new();
        let mut granted: BTreeMap<RunId, u64> = BTreeMap::new();
        for happened in self.history {
            match &happened.what {
                What::Delivered { run, worker } => {
                    let word = words.entry((worker.clone(), *run)).or_insert(Word::None);
                    // Delivered again while it works: the claim answers for both.
                    if *word == Word::Over {
                        *word = Word::None;
                    }
                }
                What::Granted { run, epoch, worker } => {
                    words.insert((worker.clone(), *run), Word::Working(*epoch));
                    granted.insert(*run, *epoch);
                }
                What::Done { run, worker } => {
                    words.insert((worker.clone(), *run), Word::Over);
                }
                What::Reported { run, epoch, worker, written, .. } if written.closes => {
                    end(&mut words, worker, *run, *epoch);
                }
                What::Refused { run, epoch, worker } | What::Lost { run, epoch, worker } => {
                    end(&mut words, worker, *run, *epoch);
                }
                What::Acked { run, worker } => {
                    let word = words.get(&(worker.clone(), *run)).copied().unwrap_or(Word::None);
                    let taken = |epoch: u64| granted.get(run).is_some_and(|now| *now > epoch);
                    match word {
                        Word::Over => {}
                        Word::Working(epoch) if taken(epoch) => {}
                        Word::Working(epoch) => {
                            self.broken(
                                10,
                                *run,
                                format!("{worker} acknowledged it while it worked on it in epoch {epoch}"),
                            );
                        }
                        Word::None => {
                            self.broken(
                                10,
                                *run,
                                format!("{worker} acknowledged it before the server had said anything"),
                            );
                        }
                    }
                }
                _ => {}
            }
        }
    }
}

fn end(words: &mut BTreeMap<(Name, RunId), Word>, worker: &Name, run: RunId, epoch: u64) {
    let word = words.entry((worker.clone(), run)).or_insert(Word::None);
    if *word == Word::Working(epoch) {
        *word = Word::Over;
    }
}
