//! What is wrong, each with the notes that show it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::path::Path;

use aiki_core::{RunId, TaskId};
use aiki_proof::check::{Bounds, Invariant, Violation, judge};
use aiki_proof::end::End;
use std::time::Duration;

use super::inject::Injected;
use super::load::Job;
use super::notes::{Line, Note};
use super::plan::Kind;
use super::profile::{LEASE, PATIENCE};
use super::rest::{Counted, answered, recorded};
use super::story::story;

/// At most so many notes are shown for a violation.
const SHOWN: usize = 40;

/// Something that is wrong.
#[derive(Clone, Debug)]
pub struct Wrong {
    /// The broken invariant, where it is one.
    pub invariant: Option<u8>,
    /// By which run, if it was one.
    pub run: Option<RunId>,
    /// How.
    pub text: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(number) = self.invariant {
            write!(f, "I{number} ")?;
        }
        if let Some(run) = self.run {
            write!(f, "run {run}: ")?;
        }
        f.write_str(&self.text)
    }
}

impl From<String> for Wrong {
    fn from(text: String) -> Self {
        Self { invariant: None, run: None, text }
    }
}

impl From<Violation> for Wrong {
    fn from(Violation { invariant: Invariant(number), run, text }: Violation) -> Self {
        Self { invariant: Some(number), run, text }
    }
}

impl Wrong {
    fn of(invariant: u8, run: RunId, text: String) -> Self {
        Self { invariant: Some(invariant), run: Some(run), text }
    }

    /// The notes about its run.
    pub fn evidence<'a>(&self, lines: &'a [Line]) -> Vec<&'a Line> {
        let Some(run) = self.run else { return Vec::new() };
        let about = lines.iter().filter(|line| about(&line.note) == Some(run));
        about.filter(|line| !matches!(line.note, Note::Decided { .. })).take(SHOWN).collect()
    }
}

/// The run that a note is about.
fn about(note: &Note) -> Option<RunId> {
    match note {
        Note::Began { task, .. } | Note::Ended { task, .. } => Some(task.run()),
        Note::Created { run, .. }
        | Note::Intervened { run }
        | Note::Granted { run, .. }
        | Note::Done { run }
        | Note::Sent { run, .. }
        | Note::Reported { run, .. }
        | Note::Refused { run, .. }
        | Note::Lost { run, .. }
        | Note::Released { run, .. }
        | Note::Delivered { run, .. }
        | Note::Acked { run, .. }
        | Note::Decided { run, .. } => Some(*run),
        Note::Stopped | Note::Stalled { .. } => None,
    }
}

/// What is judged.
pub struct Evidence<'a> {
    /// All notes.
    pub lines: &'a [Line],
    /// All faults.
    pub injected: &'a [Injected],
    /// What the server shows.
    pub end: &'a End,
    /// What was counted behind it.
    pub counted: &'a Counted,
    /// The job of each run whose start was acknowledged.
    pub started: &'a BTreeMap<RunId, Job>,
}

impl Evidence<'_> {
    /// All that is wrong.
    pub fn verdict(&self) -> Vec<Wrong> {
        let bounds = Bounds { late: PATIENCE, early: Duration::from_secs(1), lease: LEASE };
        let found = judge(&story(self.lines, self.injected), self.end, self.counted, bounds);
        let mut wrong: Vec<Wrong> = found.into_iter().map(Wrong::from).collect();
        self.results(&mut wrong);
        self.times(&mut wrong);
        recorded_again(self.lines, &mut wrong);
        wrong
    }

    /// Every run has ended as it should, with all of its tasks.
    fn results(&self, wrong: &mut Vec<Wrong>) {
        for (run, job) in self.started {
            // What is not shown, or not at rest, is I1 and I2.
            let Some(Ok(shown)) = self.end.runs.get(run) else { continue };
            let state = &shown.record.state;
            if !state.is_terminal() {
                let text = format!("{} has not ended: it is {}", job.reference(), state.status());
                wrong.push(Wrong::of(2, *run, text));
                continue;
            }
            let (answer, expected) = (answered(state), job.expected());
            if answer != expected || (expected.is_none() && state.status().as_str() != "failed") {
                let text = format!("{} is {state:?}, it should answer {expected:?}", job.reference());
                wrong.push(Wrong { invariant: None, run: Some(*run), text });
            }
            let tasks = recorded(&shown.transitions).count() as u64;
            if tasks != job.tasks_in_all() {
                let text = format!("{} has {tasks} results on record, not {}", job.reference(), job.tasks_in_all());
                wrong.push(Wrong::of(4, *run, text));
            }
        }
    }

    /// No body begins after the server says that its result was recorded. All clocks are one.
    fn times(&self, wrong: &mut Vec<Wrong>) {
        let shown = self.end.runs.values().flatten();
        let recorded: HashMap<TaskId, u64> = shown.flat_map(|shown| recorded(&shown.transitions)).collect();
        for (at, line) in self.lines.iter().enumerate() {
            let Note::Began { task, attempt, .. } = &line.note else { continue };
            let Some(time) = recorded.get(task) else { continue };
            if line.wall_ms > *time && !self.stood_still(at, task.run()) {
                let text = format!("attempt {attempt} of task {task} began on {} at {}", line.worker, line.wall_ms);
                wrong.push(Wrong::of(3, task.run(), format!("{text}, its result is of {time}")));
            }
        }
    }

    /// Whether the worker of this line stood still since it was granted the run: then it begins what it was about
    /// to begin, and records nothing.
    fn stood_still(&self, at: usize, run: RunId) -> bool {
        /// The note of a stall comes after it.
        const LATER_US: u64 = 1_000_000;
        let line = &self.lines[at];
        let own = |other: &&Line| other.worker == line.worker;
        let granted = self.lines[..at].iter().rev().filter(own);
        let granted = granted.into_iter().find(|line| matches!(line.note, Note::Granted { run: of, .. } if of == run));
        let since = granted.map_or(0, |line| line.at_us);
        let stalled = self.lines.iter().filter(own).any(|other| {
            matches!(other.note, Note::Stalled { .. }) && (since..line.at_us + LATER_US).contains(&other.at_us)
        });
        let frozen = |fault: &Injected| {
            fault.kind == Kind::WorkerFrozen
                && fault.worker.as_deref() == Some(&line.worker)
                && fault.until_us >= since
                && fault.from_us <= line.at_us
        };
        stalled || self.injected.iter().any(frozen)
    }
}

/// Who was answered that a task's result is on record does not send one again, also if the server would refuse it. The
/// same report may be sent again: its answer may have been lost.
fn recorded_again(lines: &[Line], wrong: &mut Vec<Wrong>) {
    let mut known: HashMap<(&str, TaskId), (u64, u64)> = HashMap::new();
    let mut told = HashSet::new();
    for line in lines {
        match &line.note {
            Note::Reported { epoch, seq, ended, .. } => {
                known.extend(ended.iter().map(|(task, _)| ((line.worker.as_str(), *task), (*epoch, *seq))));
            }
            Note::Sent { run, epoch, seq, ended } => {
                for task in ended {
                    let first = known.get(&(line.worker.as_str(), *task)).filter(|first| **first != (*epoch, *seq));
                    if let Some(first) = first.filter(|_| told.insert(*task)) {
                        let text =
                            format!("task {task} was recorded by {first:?} and sent again by {:?}", (epoch, seq));
                        wrong.push(Wrong::of(4, *run, format!("{} of {}", text, line.worker)));
                    }
                }
            }
            _ => {}
        }
    }
}

/// Files of this directory that have one of these texts in them; and how large all of them are.
///
/// # Errors
/// When a file cannot be read.
pub fn leaks(folder: &Path, secrets: &[(&str, &str)]) -> std::io::Result<(Vec<String>, u64)> {
    let (mut found, mut bytes) = (Vec::new(), 0);
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let text = std::fs::read(&path)?;
        bytes += text.len() as u64;
        let text = String::from_utf8_lossy(&text);
        for (name, secret) in secrets {
            if let Some(line) = text.lines().position(|line| line.contains(secret)) {
                found.push(format!("{} has the {name} in line {}", path.display(), line + 1));
            }
        }
    }
    Ok((found, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_sent_again_only_as_the_same_report() {
        let run = RunId::from_bits(7 << 24);
        let task = run.task(0);
        let line = |worker: &str, note| Line { at_us: 0, wall_ms: 0, process: 1, worker: worker.into(), note };
        let sent = |worker: &str, epoch, seq| line(worker, Note::Sent { run, epoch, seq, ended: vec![task] });
        let ended = vec![(task, true)];
        let reported = line("a", Note::Reported { run, epoch: 1, seq: 2, ended, closes: false, sent_us: 0 });
        let found = |last: Line| {
            let mut wrong = Vec::new();
            recorded_again(&[sent("a", 1, 2), sent("a", 1, 2), reported.clone(), last], &mut wrong);
            wrong.iter().filter_map(|wrong| wrong.invariant).collect::<Vec<_>>()
        };
        assert!(found(sent("a", 1, 2)).is_empty());
        assert!(found(sent("b", 2, 1)).is_empty(), "it has not heard of it");
        assert_eq!(found(sent("a", 1, 3)), [4]);
        assert_eq!(found(sent("a", 2, 2)), [4]);
    }

    #[test]
    fn a_secret_in_a_log_is_found_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.log"), "one\nurl redis://:hunter2@h\n").unwrap();
        std::fs::write(folder.path().join("b.log"), "nothing here\n").unwrap();
        let (found, bytes) = leaks(folder.path(), &[("password", "hunter2"), ("key", "k3y")]).unwrap();
        assert_eq!((found.len(), bytes), (1, 40));
        assert!(found[0].ends_with("a.log has the password in line 2"), "{found:?}");
    }
}
