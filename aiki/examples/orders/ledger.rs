//! The gateway's own book: a line for every charge, written apart from Aiki's database.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use aiki::prelude::*;
use aiki::run::TaskState;
use aiki::run::record::TransitionChange;
use serde::{Deserialize, Serialize};

pub(crate) struct Ledger {
    path: PathBuf,
    file: Mutex<File>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    order: String,
    key: String,
    cents: u64,
    at_ms: u64,
}

/// What the ledger says once everything is done.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    /// Lines in the ledger.
    pub(crate) charges: usize,
    /// Charges that a crash repeated before their result was recorded. The gateway knows their key.
    pub(crate) repeated_by_crash: usize,
    /// Charges made after their result was recorded. Must be 0.
    pub(crate) charged_after_recorded: usize,
}

impl Ledger {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self { path: path.to_owned(), file: Mutex::new(file) })
    }

    pub(crate) fn charge(&self, order: &str, key: &str, cents: u64) -> io::Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let line = Line { order: order.into(), key: key.into(), cents, at_ms: now.as_millis() as u64 };
        // One write per line: a kill cannot tear it.
        let text = serde_json::to_string(&line)? + "\n";
        self.file.lock().unwrap_or_else(PoisonError::into_inner).write_all(text.as_bytes())
    }

    /// Compares the ledger with what the server recorded.
    pub(crate) async fn audit<I, O, E>(
        &self,
        client: &Client,
        _workflow: &WorkflowVersion<I, O, E>,
        runs: impl Iterator<Item = RunId>,
    ) -> Result<Audit, ServerError> {
        let mut charged: HashMap<String, Vec<u64>> = HashMap::new();
        let mut audit = Audit::default();
        let lines = File::open(&self.path).map(BufReader::new).map(|reader| reader.lines().map_while(Result::ok));
        for line in lines.into_iter().flatten() {
            if let Ok(line) = serde_json::from_str::<Line>(&line) {
                audit.charges += 1;
                charged.entry(line.key).or_default().push(line.at_ms);
            }
        }
        for run in runs {
            for transition in client.server().list_transitions(run).await? {
                let TransitionChange::Task(task, TaskState::Completed { .. }) = transition.change else { continue };
                let Some(times) = charged.get(&task.to_string()) else { continue };
                audit.repeated_by_crash += times.len() - 1;
                let recorded = transition.created_at.as_millis();
                audit.charged_after_recorded += times.iter().filter(|at| **at > recorded).count();
            }
        }
        Ok(audit)
    }
}
