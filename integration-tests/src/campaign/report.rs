//! The report of a campaign, for people and as JSON.

use std::fmt;

use serde::Serialize;

use super::figures::Figures;
use super::inject::Injected;
use super::profile::{LEASE, SWEEP};

/// What came of a campaign.
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs, reason = "each says what it is")]
pub struct Report {
    pub seed: u64,
    /// The command that repeats it.
    pub again: String,
    pub runs: usize,
    pub tasks: u64,
    /// How long it took in all, in seconds.
    pub seconds: f64,
    /// From the last fault until every run had ended, in milliseconds.
    pub at_rest_after_ms: Option<u64>,
    /// Runs that were acknowledged and are not shown.
    pub lost: usize,
    /// Bodies that began after their result was on record.
    pub executed_after_record: usize,
    /// Tasks with more than one result, or runs written under two claims at once.
    pub double_recorders: usize,
    /// Callers that waited for a run and were answered rightly.
    pub awaited: u64,
    /// Starts and waits that callers had to repeat beyond what the client repeats by itself.
    pub retried_by_callers: u64,
    /// Entries that nobody could read, in the end.
    pub dead_letters: u64,
    /// All logs, in bytes.
    pub log_bytes: u64,
    /// SQLite's log of changes in the end, in bytes.
    pub wal_bytes: u64,
    /// Of the server: memory when it began and in the end, in KiB.
    pub server_resident_kb: (u64, u64),
    /// Of the worker that uses most: memory when it began and in the end, in KiB.
    pub worker_resident_kb: (u64, u64),
    pub figures: Figures,
    /// The faults as they were injected.
    pub injected: Vec<Injected>,
    /// What is wrong.
    pub violations: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures {
            faults, after_kill, after_stop, after_hand_back, ended_in, after_freeze, after_cut, waiting, ..
        } = &self.figures;
        let Figures { attempts, extra_attempts, panics, stalls, longest_stall_ms, refused, notes, .. } = &self.figures;
        let Figures { lost_claims, began_after, .. } = &self.figures;
        let (kill, stop) = ((LEASE + SWEEP).as_millis() + 1_000, SWEEP.as_millis() + 1_000);
        let kinds: Vec<String> = faults.iter().map(|(kind, count)| format!("{} {count}", kind.name())).collect();
        writeln!(f, "{} runs of {} tasks in {:.1} s", self.runs, self.tasks, self.seconds)?;
        writeln!(f, "faults: {} ({})", faults.values().sum::<usize>(), kinds.join(", "))?;
        writeln!(f, "taken over after kill -9: {after_kill} (aim: p99 of {kill} ms)")?;
        for (kind, times) in &self.figures.after_doom {
            writeln!(f, "taken over after {}: {times}", kind.name())?;
        }
        writeln!(f, "taken over after SIGTERM: {after_stop}; after the hand-back: {after_hand_back} (aim: {stop} ms)")?;
        writeln!(f, "ended after SIGTERM: {ended_in}")?;
        writeln!(f, "taken over after SIGSTOP: {after_freeze}; after a cut: {after_cut}")?;
        writeln!(f, "runs began after their start: {began_after}")?;
        for (kind, times) in waiting.iter().filter(|(_, times)| times.count > 0) {
            writeln!(f, "waiting runs went on after {}: {times}", kind.name())?;
        }
        for (kind, times) in &self.figures.felt {
            writeln!(f, "{} was met so often, one after the other: {times:?}", kind.name())?;
        }
        let rest = self.at_rest_after_ms.map_or_else(|| "never".to_owned(), |ms| format!("{ms} ms later"));
        writeln!(
            f,
            "all runs had ended {rest}; callers answered: {}, tried again: {}",
            self.awaited, self.retried_by_callers
        )?;
        writeln!(
            f,
            "attempts: {attempts}, extra: {extra_attempts}, planned panics: {panics}, reports refused: {refused}, \
             claims lost: {lost_claims}; stalls of the machine: {stalls}, the longest {longest_stall_ms} ms"
        )?;
        writeln!(
            f,
            "lost: {}, executed after record: {}, double recorders: {}",
            self.lost, self.executed_after_record, self.double_recorders
        )?;
        writeln!(
            f,
            "logs: {} KB, notes: {notes}, dead letters: {}, WAL: {} KB, memory of the server: {} -> {} KB, of a worker: \
             {} -> {} KB",
            self.log_bytes / 1_000,
            self.dead_letters,
            self.wal_bytes / 1_000,
            self.server_resident_kb.0,
            self.server_resident_kb.1,
            self.worker_resident_kb.0,
            self.worker_resident_kb.1,
        )?;
        write!(f, "violations: {}", self.violations.len())
    }
}
