//! What processes write down: one file for each, appended to with one write per line, beside any database.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use aiki_core::{RunId, TaskId};
use serde::{Deserialize, Serialize};

/// How the body of a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "as in `aiki_proof::history::AttemptEnd`")]
pub enum BodyEnd {
    Returned,
    Panicked,
    Dropped,
}

/// One thing that a process saw or did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "note", rename_all = "snake_case")]
#[allow(missing_docs, reason = "as in `aiki_proof::history::What`")]
pub enum Note {
    /// A caller was answered.
    Created {
        run: RunId,
        key: String,
    },
    /// The campaign sent a parked run back to work.
    Intervened {
        run: RunId,
    },
    Granted {
        run: RunId,
        epoch: u64,
    },
    Done {
        run: RunId,
    },
    /// `ended`: the tasks that it ends.
    Sent {
        run: RunId,
        epoch: u64,
        seq: u64,
        ended: Vec<TaskId>,
    },
    /// `sent_us`: when this report was first sent.
    Reported {
        run: RunId,
        epoch: u64,
        seq: u64,
        ended: Vec<(TaskId, bool)>,
        closes: bool,
        sent_us: u64,
    },
    Refused {
        run: RunId,
        epoch: u64,
    },
    Lost {
        run: RunId,
        epoch: u64,
    },
    Released {
        run: RunId,
        epoch: u64,
    },
    Delivered {
        run: RunId,
        receipt: String,
    },
    Acked {
        run: RunId,
        receipt: String,
    },
    Began {
        task: TaskId,
        attempt: u64,
        number: u64,
    },
    Ended {
        task: TaskId,
        attempt: u64,
        how: BodyEnd,
    },
    Decided {
        run: RunId,
        pass: u64,
        life: String,
        place: String,
        value: String,
    },
    /// The worker's `stop()` returned.
    Stopped,
    /// The process, or what it asked, stood still for so long although nobody had troubled it.
    Stalled {
        ms: u64,
    },
}

/// A note with its place and time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Microseconds of the monotonic clock, which all processes of a machine share.
    pub at_us: u64,
    /// Milliseconds since the Unix epoch.
    pub wall_ms: u64,
    /// The process.
    pub process: u32,
    /// Its name: no two processes have the same.
    pub worker: String,
    /// What it wrote.
    #[serde(flatten)]
    pub note: Note,
}

/// Where a process writes.
#[derive(Clone, Debug)]
pub struct Notes {
    worker: String,
    file: Arc<File>,
}

impl Notes {
    /// The file of this process in this directory.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(directory: &Path, worker: &str) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(directory.join(format!("{worker}.jsonl")))?;
        Ok(Self { worker: worker.to_owned(), file: Arc::new(file) })
    }

    /// Appends a line. One write, so that a kill cannot tear it.
    ///
    /// # Panics
    /// When the line cannot be written: a campaign without its notes proves nothing.
    #[allow(clippy::expect_used)]
    pub fn write(&self, note: Note) {
        let process = std::process::id();
        let line = Line { at_us: monotonic_us(), wall_ms: wall_ms(), process, worker: self.worker.clone(), note };
        let text = serde_json::to_string(&line).expect("notes are JSON") + "\n";
        (&*self.file).write_all(text.as_bytes()).expect("notes can be written");
    }
}

/// All lines of all files in a directory, in the order of their times.
///
/// # Errors
/// When a file cannot be read or holds something else.
pub fn read_all(directory: &Path) -> io::Result<Vec<Line>> {
    let mut lines = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let text = std::fs::read_to_string(entry?.path())?;
        for line in text.lines() {
            lines.push(
                serde_json::from_str::<Line>(line).map_err(|error| io::Error::other(format!("{line}: {error}")))?,
            );
        }
    }
    lines.sort_by_key(|line| line.at_us);
    Ok(lines)
}

/// The monotonic clock of this machine, in microseconds.
pub fn monotonic_us() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1_000
}

/// The clock on the wall, in milliseconds since the Unix epoch. As `monotonic_us`, it asks the system past the C library:
/// it is right also in a process that was given a wrong one.
pub fn wall_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    now.tv_sec as u64 * 1_000 + now.tv_nsec as u64 / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_note_is_read_back_as_it_was_written_and_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let (one, other) =
            (Notes::open(directory.path(), "one").unwrap(), Notes::open(directory.path(), "other").unwrap());
        let run = RunId::from_bits(7 << 24);
        let written = [
            Note::Created { run, key: "run-1".into() },
            Note::Began { task: run.task(3), attempt: 2, number: 1 },
            Note::Reported { run, epoch: 1, seq: 2, ended: vec![(run.task(3), true)], closes: true, sent_us: 9 },
            Note::Ended { task: run.task(3), attempt: 2, how: BodyEnd::Dropped },
            Note::Stopped,
        ];
        for (at, note) in written.iter().enumerate() {
            if at % 2 == 0 { &one } else { &other }.write(note.clone());
        }
        let lines = read_all(directory.path()).unwrap();
        assert_eq!(lines.iter().map(|line| line.note.clone()).collect::<Vec<_>>(), written);
        assert!(lines.windows(2).all(|pair| pair[0].at_us <= pair[1].at_us));
        assert_eq!((lines[0].worker.as_str(), lines[1].worker.as_str()), ("one", "other"));
    }
}
