//! Attempts and results of tasks.

use std::collections::{BTreeMap, BTreeSet};

use aiki_core::{Name, RunId, TaskId};

use super::{Case, Invariant, Violation};
use crate::history::{Fault, What};

/// A body that began.
struct Start {
    at: usize,
    /// When the claim was asked for under which it began, at the earliest.
    granted: usize,
    attempt: u64,
    worker: Name,
}

impl Case<'_> {
    /// I3, I4 by reports, I11, I16 by bodies, I17 by decisions.
    pub(super) fn tasks(&mut self) {
        self.results();
        self.repetitions();
        self.stops();
        self.decisions();
    }

    fn results(&mut self) {
        let mut recorded: BTreeMap<TaskId, (u64, u64)> = BTreeMap::new();
        // Workers that stood still since they were granted the run: they begin what they were about to begin.
        let mut stood_still: BTreeSet<(Name, RunId)> = BTreeSet::new();
        let mut holds: BTreeMap<Name, BTreeSet<RunId>> = BTreeMap::new();
        for happened in self.history {
            match &happened.what {
                What::Granted { run, worker, .. } => {
                    stood_still.remove(&(worker.clone(), *run));
                    holds.entry(worker.clone()).or_default().insert(*run);
                }
                What::Fault { fault: Fault::WorkerPaused, worker: Some(worker) } => {
                    let held = holds.get(worker).into_iter().flatten();
                    stood_still.extend(held.map(|run| (worker.clone(), *run)));
                }
                What::Reported { run, epoch, seq, written, .. } => {
                    for (task, _) in &written.ended {
                        match recorded.insert(*task, (*epoch, *seq)) {
                            Some(first) if first != (*epoch, *seq) => {
                                self.broken(
                                    4,
                                    *run,
                                    format!("task {task} was recorded by {first:?} and {:?}", (epoch, seq)),
                                );
                            }
                            _ => {}
                        }
                    }
                }
                What::Began { task, attempt, worker }
                    if recorded.contains_key(task) && !stood_still.contains(&(worker.clone(), task.run())) =>
                {
                    let text = format!("attempt {attempt} of task {task} began on {worker} after its record");
                    self.broken(3, task.run(), text);
                }
                _ => {}
            }
        }
    }

    fn repetitions(&mut self) {
        let mut starts: BTreeMap<TaskId, Vec<Start>> = BTreeMap::new();
        let mut shakes: BTreeMap<Name, Vec<usize>> = BTreeMap::new();
        let mut shakes_all: Vec<usize> = Vec::new();
        let mut interventions: BTreeMap<RunId, Vec<usize>> = BTreeMap::new();
        let mut granted: BTreeMap<(RunId, &Name), usize> = BTreeMap::new();
        for (at, happened) in self.history.iter().enumerate() {
            match &happened.what {
                What::Began { task, attempt, worker } => {
                    let granted = granted.get(&(task.run(), worker)).copied().unwrap_or(at);
                    let start = Start { at, granted, attempt: *attempt, worker: worker.clone() };
                    starts.entry(*task).or_default().push(start);
                }
                What::Granted { run, worker, .. } => {
                    let asked = happened.at.saturating_sub(self.bounds.lease.as_millis() as u64);
                    let asked = self.history[..at].iter().rposition(|before| before.at < asked);
                    // It may also have stood still between asking and being answered.
                    let silent = self.history[..at]
                        .iter()
                        .rposition(|before| before.at < happened.at && by(&before.what) == Some(worker));
                    granted.insert((*run, worker), asked.unwrap_or_default().min(silent.unwrap_or_default()));
                }
                What::Fault { worker: Some(worker), .. } | What::Stopped { worker } => {
                    shakes.entry(worker.clone()).or_default().push(at);
                }
                What::Fault { worker: None, fault } if concerns_all(*fault) => shakes_all.push(at),
                What::Intervened { run } | What::Cancelled { run } => interventions.entry(*run).or_default().push(at),
                What::Released { run, .. } => interventions.entry(*run).or_default().push(at),
                _ => {}
            }
        }
        let between = |list: &[usize], from: usize, to: usize| list.iter().any(|at| (from..to).contains(at));
        for (task, starts) in &starts {
            for pair in starts.windows(2) {
                let [first, second] = pair else { continue };
                let near = |list: Option<&Vec<usize>>| list.is_some_and(|list| between(list, first.granted, second.at));
                let explained = near(shakes.get(&first.worker))
                    || near(interventions.get(&task.run()))
                    || between(&shakes_all, first.granted, second.at);
                if first.attempt == second.attempt && !explained {
                    let (attempt, one, other) = (first.attempt, &first.worker, &second.worker);
                    let text =
                        format!("attempt {attempt} of task {task} began on {one} and again on {other} without a fault");
                    self.broken(11, task.run(), text);
                }
            }
        }
    }

    fn stops(&mut self) {
        let mut open: BTreeMap<Name, BTreeSet<TaskId>> = BTreeMap::new();
        let mut stopped: BTreeSet<Name> = BTreeSet::new();
        for happened in self.history {
            match &happened.what {
                What::Began { task, worker, .. } => {
                    open.entry(worker.clone()).or_default().insert(*task);
                    if stopped.contains(worker) {
                        self.broken(16, task.run(), format!("task {task} began on {worker}, which had stopped"));
                    }
                }
                What::Effect { task, worker, .. } if stopped.contains(worker) => {
                    self.broken(16, task.run(), format!("task {task} had an effect on {worker}, which had stopped"));
                }
                What::Ended { task, worker, .. } => {
                    open.entry(worker.clone()).or_default().remove(task);
                }
                What::Stopped { worker } => {
                    stopped.insert(worker.clone());
                    for task in open.get(worker).into_iter().flatten() {
                        self.broken(16, task.run(), format!("task {task} was still running when {worker} had stopped"));
                    }
                }
                _ => {}
            }
        }
        for worker in &stopped {
            if let Some(held) = self.views.held_by(worker).filter(|held| *held > 0) {
                self.broken(16, None, format!("{worker} has stopped and holds {held} deliveries"));
            }
        }
    }

    /// What a handler was given once is given again, wherever what it did with it was accepted. A worker whose
    /// claim is gone may be given anything: nobody hears of it.
    fn decisions(&mut self) {
        let mut pending: BTreeMap<(RunId, u64, &Name), Vec<Decided<'_>>> = BTreeMap::new();
        let mut sent: BTreeMap<(RunId, u64, u64), Vec<Decided<'_>>> = BTreeMap::new();
        let mut made: BTreeSet<(RunId, u64, u64)> = BTreeSet::new();
        let mut holds: BTreeMap<Decision<'_>, &str> = BTreeMap::new();
        let mut told = BTreeSet::new();
        for happened in self.history {
            match &happened.what {
                // A pass may go on for a while after its worker was granted the run anew: what it never sends is nobody's.
                What::Decided { run, worker, epoch, life, place, value } => {
                    let decision = (*run, life.as_str(), place.as_str());
                    pending.entry((*run, *epoch, worker)).or_default().push((decision, value));
                }
                // A report that is sent again is the same report: what came since is in the next one.
                What::Sent { run, epoch, seq, worker } if made.insert((*run, *epoch, *seq)) => {
                    let decisions = pending.remove(&(*run, *epoch, worker)).unwrap_or_default();
                    sent.insert((*run, *epoch, *seq), decisions);
                }
                What::Reported { run, epoch, seq, .. } => {
                    for (decision, value) in sent.remove(&(*run, *epoch, *seq)).unwrap_or_default() {
                        let first = *holds.entry(decision).or_insert(value);
                        if first != value && told.insert(decision) {
                            let (_, life, place) = decision;
                            let text =
                                format!("at {place} of life {life} its handler was given `{first}`, then `{value}`");
                            self.found.push(Violation { invariant: Invariant(17), run: Some(*run), text });
                        }
                    }
                }
                _ => {}
            }
        }
    }
}

/// A place in one life of a run.
type Decision<'a> = (RunId, &'a str, &'a str);
/// With what the handler was given there.
type Decided<'a> = (Decision<'a>, &'a str);

/// The worker that did something, or was told something.
fn by(what: &What) -> Option<&Name> {
    match what {
        What::Granted { worker, .. }
        | What::Done { worker, .. }
        | What::Sent { worker, .. }
        | What::Delivered { worker, .. }
        | What::Acked { worker, .. }
        | What::Began { worker, .. }
        | What::Ended { worker, .. } => Some(worker),
        _ => None,
    }
}

/// Whether a fault without a place may concern the run of any worker.
fn concerns_all(fault: Fault) -> bool {
    matches!(fault, Fault::ServerRestarted | Fault::ServerClockForward | Fault::ServerClockBack)
}
