//! What outlives the server of a simulation.

use std::io;
use std::path::Path;

use aiki_core::RunId;
use aiki_server::{KeptMemory, ServerBuilder};
use clap::ValueEnum;
use tempfile::TempDir;

/// Where the server of a simulation keeps its runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Store {
    /// In memory that outlives it.
    #[default]
    Memory,
    /// In a SQLite file. All that the server remembers is gone with it.
    Sqlite,
}

/// Memory or disk for tests: a process that dies loses nothing that it wrote to the file system, so there is
/// nothing to learn from a real disk.
const FAST_FOLDER: &str = "/dev/shm";

/// What a server leaves to the next one.
pub(super) enum Kept {
    Memory(KeptMemory),
    Sqlite(TempDir),
}

impl Kept {
    pub(super) fn new(store: Store) -> io::Result<Self> {
        Ok(match store {
            Store::Memory => Kept::Memory(KeptMemory::default()),
            Store::Sqlite if Path::new(FAST_FOLDER).is_dir() => Kept::Sqlite(TempDir::new_in(FAST_FOLDER)?),
            Store::Sqlite => Kept::Sqlite(TempDir::new()?),
        })
    }

    /// A server over it.
    pub(super) fn lend(&self, builder: ServerBuilder) -> ServerBuilder {
        match self {
            Kept::Memory(memory) => builder.kept_memory(memory),
            Kept::Sqlite(folder) => builder.sqlite(folder.path().join("runs.db")).in_line(),
        }
    }

    pub(super) fn announcements(&self, run: RunId) -> Option<usize> {
        match self {
            Kept::Memory(memory) => memory.announcements(run),
            Kept::Sqlite(_) => None,
        }
    }

    pub(super) fn timers(&self) -> Option<usize> {
        match self {
            Kept::Memory(memory) => memory.timers(),
            Kept::Sqlite(_) => None,
        }
    }

    pub(super) fn lose_tail(&self, run: RunId) {
        if let Kept::Memory(memory) = self {
            memory.lose_tail(run);
        }
    }
}
