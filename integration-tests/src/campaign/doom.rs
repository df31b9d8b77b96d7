//! Handlers that take their process down. The campaign orders it by a file, the next handler of that worker obeys.

use std::fs::OpenOptions;
use std::hint::black_box;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use aiki_core::RunId;
use clap::ValueEnum;
use rustix::process::{Resource, Rlimit, Signal, getpid, kill_process, setrlimit};

use super::plan::Kind;

/// The order that is meant for one run, whoever has it.
const POISON: &str = "poison";
/// Which run that is: the first that sees the order.
const POISONED: &str = "poisoned";
/// What a process has when it is killed for its memory.
const MEMORY: usize = 64 << 20;

/// Orders, as files of a directory.
#[derive(Clone, Debug)]
pub struct Orders {
    folder: PathBuf,
    worker: String,
}

impl Orders {
    /// For this worker.
    pub fn new(folder: &Path, worker: &str) -> Self {
        Self { folder: folder.to_owned(), worker: worker.to_owned() }
    }

    fn own(&self) -> PathBuf {
        self.folder.join(&self.worker)
    }

    /// Orders this death to the worker.
    ///
    /// # Errors
    /// When the order cannot be written.
    pub fn give(&self, kind: Kind) -> io::Result<()> {
        // Whole or not at all: it is looked for at any time.
        let draft = self.own().with_extension("draft");
        std::fs::write(&draft, kind.name())?;
        std::fs::rename(draft, self.own())
    }

    /// Takes the order back. `false`: the worker has taken it.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn withdraw(&self) -> io::Result<bool> {
        take(&self.own())
    }

    /// Orders a death to the next run that sees this, each time that it begins, on any worker.
    ///
    /// # Errors
    /// When the order cannot be written.
    pub fn poison(folder: &Path) -> io::Result<()> {
        std::fs::write(folder.join(POISON), "")
    }

    /// Ends that. Answers which run it was, if any saw it.
    ///
    /// # Errors
    /// When the files cannot be removed.
    pub fn end_poison(folder: &Path) -> io::Result<Option<RunId>> {
        let run = Self::poisoned(folder);
        take(&folder.join(POISON))?;
        take(&folder.join(POISONED))?;
        Ok(run)
    }

    /// The run that is poisoned.
    pub fn poisoned(folder: &Path) -> Option<RunId> {
        std::fs::read_to_string(folder.join(POISONED)).ok()?.parse().ok()
    }

    /// Dies, when it is ordered. Called by the handler of this run.
    pub fn obey(&self, run: RunId) {
        if self.folder.join(POISON).exists() && self.is_poisoned(run) {
            die(Kind::WorkerAborted);
        }
        let Ok(order) = std::fs::read_to_string(self.own()) else { return };
        if let (Ok(true), Ok(kind)) = (take(&self.own()), Kind::from_str(&order, false)) {
            die(kind);
        }
    }

    fn is_poisoned(&self, run: RunId) -> bool {
        let file = self.folder.join(POISONED);
        match OpenOptions::new().create_new(true).write(true).open(&file) {
            Ok(mut file) => file.write_all(run.to_string().as_bytes()).is_ok(),
            Err(_) => Self::poisoned(&self.folder) == Some(run),
        }
    }
}

/// Removes a file. `false`: somebody else did.
fn take(file: &Path) -> io::Result<bool> {
    match std::fs::remove_file(file) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn die(kind: Kind) {
    // Nobody wants the memory of all these processes on disk.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    match kind {
        Kind::WorkerOverflowed => {
            black_box(overflow(black_box(0)));
        }
        Kind::WorkerOutOfMemory => {
            let memory = black_box(vec![1_u8; MEMORY]);
            let _ = kill_process(getpid(), Signal::KILL);
            drop(memory);
        }
        _ => std::process::abort(),
    }
}

/// Deeper than any stack.
fn overflow(depth: u64) -> u64 {
    let frame = black_box([depth; 128]);
    if depth == u64::MAX {
        return 0;
    }
    overflow(depth + 1) + frame[(depth % 128) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_taken_once_and_only_by_whom_it_is_for() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (Orders::new(folder.path(), "w0-1"), Orders::new(folder.path(), "w1-2"));
        one.give(Kind::WorkerAborted).unwrap();
        other.obey(RunId::from_bits(7 << 24));
        assert!(!other.withdraw().unwrap());
        assert!(one.withdraw().unwrap(), "nobody took it");
        assert!(!one.withdraw().unwrap());
    }

    #[test]
    fn the_first_run_that_sees_the_poison_is_poisoned_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (RunId::from_bits(7 << 24), RunId::from_bits(8 << 24));
        Orders::poison(folder.path()).unwrap();
        let worker = Orders::new(folder.path(), "w0-1");
        assert!(worker.is_poisoned(first));
        assert!(!worker.is_poisoned(second));
        assert!(Orders::new(folder.path(), "w1-2").is_poisoned(first), "on any worker");
        assert_eq!(Orders::end_poison(folder.path()).unwrap(), Some(first));
        worker.obey(second);
    }
}
