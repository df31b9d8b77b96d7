//! What was measured.

use std::collections::{BTreeMap, HashMap, HashSet};

use aiki_core::{RunId, TaskId};
use serde::Serialize;

use super::inject::Injected;
use super::notes::{Line, Note};
use super::plan::Kind;

/// A distribution, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "named as usual")]
pub struct Spread {
    pub count: usize,
    pub median: u64,
    pub p99: u64,
    pub max: u64,
}

impl Spread {
    /// Of these values.
    pub fn of(mut values: Vec<u64>) -> Self {
        values.sort_unstable();
        let at = |share: f64| {
            let place = (values.len() as f64 * share).ceil() as usize;
            values.get(place.saturating_sub(1)).copied().unwrap_or_default()
        };
        Self { count: values.len(), median: at(0.5), p99: at(0.99), max: at(1.0) }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { count, median, p99, max } = self;
        write!(f, "median {median} ms, p99 {p99} ms, max {max} ms of {count}")
    }
}

/// What follows from the notes.
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs, reason = "each says what it is")]
pub struct Figures {
    /// Faults by their kinds.
    pub faults: BTreeMap<Kind, usize>,
    /// From a worker's `kill -9` until another one was granted a run that it held.
    pub after_kill: Spread,
    /// The same where a handler took its process down.
    pub after_doom: BTreeMap<Kind, Spread>,
    /// From SIGTERM to the same.
    pub after_stop: Spread,
    /// From when the stopping worker gave the run back to the same.
    pub after_hand_back: Spread,
    /// From SIGTERM until the process had ended.
    pub ended_in: Spread,
    /// From SIGSTOP until another worker was granted a run that the frozen one held.
    pub after_freeze: Spread,
    /// From when a worker was cut off from the server to the same.
    pub after_cut: Spread,
    /// For each trouble of Redis and of the server: from when its cause was gone until runs that waited for a worker when
    /// it came were granted to one.
    pub waiting: BTreeMap<Kind, Spread>,
    /// How often the server met a disk that was full (refusals) or slow (late commits or fsyncs), for each such fault.
    pub felt: BTreeMap<Kind, Vec<u64>>,
    /// Bodies that began.
    pub attempts: u64,
    /// Those of them that repeat an attempt that had begun before.
    pub extra_attempts: u64,
    /// Planned panics of task bodies.
    pub panics: u64,
    /// How often a worker or its machine stood still for a moment, outside of faults.
    pub stalls: u64,
    /// The longest of them, in milliseconds.
    pub longest_stall_ms: u64,
    /// Claims that a heartbeat was told are gone.
    pub lost_claims: u64,
    /// From the answer to a start until the run was granted to a worker for the first time.
    pub began_after: Spread,
    /// Reports that were refused because the claim had gone.
    pub refused: u64,
    /// Lines of the notes.
    pub notes: usize,
}

impl Figures {
    /// Works them out.
    pub fn of(lines: &[Line], injected: &[Injected]) -> Self {
        let mut figures = Self { notes: lines.len(), ..Self::default() };
        for fault in injected {
            *figures.faults.entry(fault.kind).or_default() += 1;
        }
        let mut begun: HashMap<(TaskId, u64), u64> = HashMap::new();
        for line in lines {
            match &line.note {
                Note::Began { task, attempt, .. } => *begun.entry((*task, *attempt)).or_default() += 1,
                Note::Ended { how: super::notes::BodyEnd::Panicked, .. } => figures.panics += 1,
                Note::Refused { .. } => figures.refused += 1,
                Note::Lost { .. } => figures.lost_claims += 1,
                Note::Stalled { ms } if !during_a_fault(line, *ms, injected) => {
                    figures.stalls += 1;
                    figures.longest_stall_ms = figures.longest_stall_ms.max(*ms);
                }
                _ => {}
            }
        }
        figures.attempts = begun.values().sum();
        figures.began_after = Spread::of(began_after(lines));
        figures.extra_attempts = begun.values().map(|count| count - 1).sum();
        let of = |kind| injected.iter().filter(move |fault: &&Injected| fault.kind == kind);
        figures.after_kill = Spread::of(of(Kind::WorkerKilled).flat_map(|fault| taken_over(lines, fault)).collect());
        for kind in [Kind::WorkerAborted, Kind::WorkerOverflowed, Kind::WorkerOutOfMemory] {
            let times = Spread::of(of(kind).flat_map(|fault| taken_over(lines, fault)).collect());
            figures.after_doom.extend((times.count > 0).then_some((kind, times)));
        }
        figures.after_stop =
            Spread::of(of(Kind::WorkerStopped).flat_map(|fault| handed_on(lines, fault, true)).collect());
        figures.after_hand_back =
            Spread::of(of(Kind::WorkerStopped).flat_map(|fault| handed_on(lines, fault, false)).collect());
        figures.after_freeze = Spread::of(of(Kind::WorkerFrozen).flat_map(|fault| taken_over(lines, fault)).collect());
        figures.after_cut =
            Spread::of(of(Kind::ServerUnreachable).flat_map(|fault| taken_over(lines, fault)).collect());
        let mut waiting: BTreeMap<Kind, Vec<u64>> = BTreeMap::new();
        for fault in injected.iter().filter(|fault| fault.worker.is_none()) {
            waiting.entry(fault.kind).or_default().extend(waited(lines, fault));
        }
        figures.waiting = waiting.into_iter().map(|(kind, times)| (kind, Spread::of(times))).collect();
        figures.ended_in = Spread::of(injected.iter().filter_map(|fault| fault.ended_in_ms).collect());
        for fault in injected {
            if let Some(felt) = fault.felt {
                figures.felt.entry(fault.kind).or_default().push(felt);
            }
        }
        figures
    }
}

/// For each run: from when its caller had its answer, or had none yet, until it was granted for the first time.
fn began_after(lines: &[Line]) -> Vec<u64> {
    let mut created: HashMap<RunId, u64> = HashMap::new();
    let mut granted: HashMap<RunId, u64> = HashMap::new();
    for line in lines {
        let times = match &line.note {
            Note::Created { .. } => &mut created,
            Note::Granted { .. } => &mut granted,
            _ => continue,
        };
        if let Note::Created { run, .. } | Note::Granted { run, .. } = &line.note {
            times.entry(*run).or_insert(line.at_us);
        }
    }
    let times = granted.iter().filter_map(|(run, at)| Some(at.saturating_sub(*created.get(run)?) / 1_000));
    times.collect()
}

/// Whether a stall overlaps a fault of this worker or of everybody.
fn during_a_fault(line: &Line, ms: u64, injected: &[Injected]) -> bool {
    const NEAR_US: u64 = 2_000_000;
    injected.iter().any(|fault| {
        let own = fault.worker.as_ref().is_none_or(|worker| *worker == line.worker);
        own && fault.from_us <= line.at_us && line.at_us.saturating_sub(ms * 1_000) <= fault.until_us + NEAR_US
    })
}

/// For each run that this worker held when the fault came: how long until somebody else was granted it, in
/// milliseconds. A run whose last report was done and not answered is not granted again.
fn taken_over(lines: &[Line], fault: &Injected) -> Vec<u64> {
    let Some(worker) = &fault.worker else { return Vec::new() };
    let mut held: HashMap<RunId, u64> = HashMap::new();
    let mut times = Vec::new();
    for line in lines {
        let own = line.worker == *worker;
        match &line.note {
            Note::Granted { run, epoch } if own && line.at_us <= fault.from_us => {
                held.insert(*run, *epoch);
            }
            Note::Reported { run, closes: true, .. }
            | Note::Released { run, .. }
            | Note::Refused { run, .. }
            | Note::Lost { run, .. }
                if own && line.at_us <= fault.until_us =>
            {
                held.remove(run);
            }
            Note::Granted { run, epoch }
                if !own && line.at_us > fault.from_us && held.get(run).is_some_and(|before| before < epoch) =>
            {
                held.remove(run);
                times.push((line.at_us - fault.from_us) / 1_000);
            }
            _ => {}
        }
    }
    times
}

/// For each run that had been started and had no worker when the fault came: how long until it had one, from when the
/// cause of the fault was gone.
fn waited(lines: &[Line], fault: &Injected) -> Vec<u64> {
    let mut waiting: HashSet<RunId> = HashSet::new();
    let mut times = Vec::new();
    for line in lines {
        match &line.note {
            Note::Created { run, .. } if line.at_us <= fault.from_us => {
                waiting.insert(*run);
            }
            Note::Granted { run, .. } if waiting.remove(run) && line.at_us > fault.from_us => {
                times.push(line.at_us.saturating_sub(fault.until_us) / 1_000);
            }
            _ => {}
        }
    }
    times
}

/// For each run that this worker gave back when it was told to end: how long until somebody was granted it.
fn handed_on(lines: &[Line], fault: &Injected, from_signal: bool) -> Vec<u64> {
    let Some(worker) = &fault.worker else { return Vec::new() };
    let mut given: HashMap<RunId, u64> = HashMap::new();
    let mut times = Vec::new();
    for line in lines.iter().filter(|line| line.at_us >= fault.from_us) {
        match &line.note {
            Note::Released { run, .. } if line.worker == *worker => {
                given.insert(*run, line.at_us);
            }
            Note::Granted { run, .. } if line.worker != *worker => {
                if let Some(at) = given.remove(run) {
                    times.push((line.at_us - if from_signal { fault.from_us } else { at }) / 1_000);
                }
            }
            _ => {}
        }
    }
    times
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_of_a_distribution_is_not_lost() {
        assert_eq!(Spread::of(Vec::new()), Spread::default());
        assert_eq!(Spread::of((1..=200).rev().collect()), Spread { count: 200, median: 100, p99: 198, max: 200 });
        assert_eq!(Spread::of(vec![7]), Spread { count: 1, median: 7, p99: 7, max: 7 });
    }

    #[test]
    fn only_what_the_dead_worker_held_counts_as_taken_over() {
        let run = |number: u128| RunId::from_bits(number << 24);
        let line = |at_us, worker: &str, note| Line { at_us, wall_ms: 0, process: 1, worker: worker.into(), note };
        let lines = [
            line(1_000, "a", Note::Granted { run: run(1), epoch: 1 }),
            line(1_000, "a", Note::Granted { run: run(2), epoch: 1 }),
            line(1_000, "b", Note::Granted { run: run(3), epoch: 1 }),
            line(2_000, "a", Note::Released { run: run(2), epoch: 1 }),
            line(9_000, "b", Note::Granted { run: run(2), epoch: 2 }),
            line(2_505_000, "b", Note::Granted { run: run(1), epoch: 2 }),
        ];
        let fault = Injected {
            kind: Kind::WorkerKilled,
            worker: Some("a".into()),
            from_us: 5_000,
            until_us: 5_100,
            ended_in_ms: None,
            malformed: 0,
            felt: None,
        };
        assert_eq!(taken_over(&lines, &fault), [2_500]);
    }
}
