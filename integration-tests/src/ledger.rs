//! A file to which every attempt of a task appends, independent of any database.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// One attempt of one task.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Attempt {
    /// The task's id.
    pub task: String,
    /// The attempt as the task was told it.
    pub attempt: u64,
    /// The process that made it.
    pub process: u32,
    /// When it began, in milliseconds since the Unix epoch.
    pub began_ms: u64,
}

/// The file.
#[derive(Clone, Debug)]
pub struct Ledger {
    path: PathBuf,
}

impl Ledger {
    /// The ledger in this directory.
    pub fn in_directory(directory: &Path) -> Self {
        Self { path: directory.join("ledger.jsonl") }
    }

    /// Writes that an attempt begins. One write per line, so that a kill cannot tear it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn note(&self, task: String, attempt: u64) -> io::Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let line = Attempt { task, attempt, process: std::process::id(), began_ms: now.as_millis() as u64 };
        let text = serde_json::to_string(&line)? + "\n";
        self.append()?.write_all(text.as_bytes())
    }

    /// All attempts so far.
    ///
    /// # Errors
    /// When the file cannot be read or holds something else.
    pub fn attempts(&self) -> io::Result<Vec<Attempt>> {
        let text = match std::fs::read_to_string(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        // A line without its end is being written at this moment.
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        whole.map(|line| serde_json::from_str(line).map_err(io::Error::from)).collect()
    }

    fn append(&self) -> io::Result<File> {
        OpenOptions::new().create(true).append(true).open(&self.path)
    }
}
