//! The workflow of the tests and benchmarks with workers as processes: tasks in sequence, as many and as long as asked.

use std::path::{Path, PathBuf};
use std::time::Duration;

use aiki::prelude::*;
use serde::{Deserialize, Serialize};

use crate::ledger::Ledger;

/// What one run does.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Chain {
    /// Tells runs apart.
    pub number: u64,
    /// Tasks in sequence.
    pub tasks: u64,
    /// How long each of them takes, in milliseconds; 0 does not even yield.
    pub task_ms: u64,
}

/// Bytes that each task answers.
pub const OUTPUT: usize = 256;

/// The workflow: answers the bytes of all outputs.
pub type Chains = WorkflowVersion<Chain, u64, Failure>;

/// Where attempts are noted: their beginnings, and the ends of those that nothing cut short.
#[derive(Clone, Debug)]
pub struct Ledgers {
    /// One line per attempt that began.
    pub begun: Ledger,
    /// One line per attempt whose body ran to its end.
    pub ended: Ledger,
}

impl Ledgers {
    /// The ledgers in this directory, which exists.
    ///
    /// # Errors
    /// When no directory can be made in it.
    pub fn in_directory(directory: &Path) -> std::io::Result<Self> {
        let folder = |name: &str| -> std::io::Result<PathBuf> {
            let folder = directory.join(name);
            std::fs::create_dir_all(&folder)?;
            Ok(folder)
        };
        let (begun, ended) = (folder("begun")?, folder("ended")?);
        Ok(Self { begun: Ledger::in_directory(&begun), ended: Ledger::in_directory(&ended) })
    }
}

/// Defines the workflow; its tasks note their attempts when there are ledgers.
pub fn define(ledgers: Option<Ledgers>) -> Chains {
    define_version("1.0.0", ledgers)
}

/// The same as another version.
pub fn define_version(version: &str, ledgers: Option<Ledgers>) -> Chains {
    let link = Task::new("link", move |cx: TaskContext, (run, at, task_ms): (u64, u64, u64)| {
        let ledgers = ledgers.clone();
        async move {
            if let Some(ledgers) = &ledgers {
                ledgers.begun.note(cx.idempotency_key(), cx.attempt())?;
            }
            if task_ms > 0 {
                tokio::time::sleep(Duration::from_millis(task_ms)).await;
            }
            if let Some(ledgers) = &ledgers {
                ledgers.ended.note(cx.idempotency_key(), cx.attempt())?;
            }
            Ok::<_, Failure>(format!("{run:0128}{at:0128}"))
        }
    });
    Workflow::new("chain").version(version, move |run: Run, chain: Chain| {
        let link = link.clone();
        async move {
            let mut bytes = 0;
            for at in 0..chain.tasks {
                bytes += link.start(&run, (chain.number, at, chain.task_ms)).await?.len() as u64;
            }
            Ok::<_, Failure>(bytes)
        }
    })
}

impl Chain {
    /// What its run answers.
    pub fn expected(self) -> u64 {
        self.tasks * OUTPUT as u64
    }
}
