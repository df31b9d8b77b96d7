//! A wrong clock for a worker.

use std::path::PathBuf;
use std::process::Command;

use super::disk::installed;

/// How far it is off, in seconds.
const OFF: i64 = 3_600;
/// Where Debian has the library, below the directory of its architecture.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// A clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clock {
    /// That of the machine.
    #[default]
    Right,
    /// An hour ahead.
    Ahead,
    /// An hour behind.
    Behind,
}

impl Clock {
    /// Whether there can be a wrong one here.
    ///
    /// # Errors
    /// One line that says what to do.
    pub fn available() -> Result<(), String> {
        installed("faketime", "worker_clock_off")?;
        library().map(drop)
    }

    /// How far it is off, in milliseconds.
    pub fn off_ms(self) -> i64 {
        match self {
            Clock::Right => 0,
            Clock::Ahead => OFF * 1_000,
            Clock::Behind => -OFF * 1_000,
        }
    }

    /// Starts this command by it. The monotonic clock stays as it is.
    ///
    /// The program `faketime` itself does not do: it stays as the parent, and signals would reach that alone.
    ///
    /// # Errors
    /// When the library is not here.
    pub fn set(self, command: &mut Command) -> Result<(), String> {
        if self == Clock::Right {
            return Ok(());
        }
        command.env("LD_PRELOAD", library()?).env("FAKETIME", format!("{:+}", self.off_ms() / 1_000));
        command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("DONT_FAKE_MONOTONIC", "1");
        Ok(())
    }
}

fn library() -> Result<PathBuf, String> {
    let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found = folders.map(|folder| folder.join(LIBRARY)).filter(|file| file.exists());
    found.next().ok_or_else(|| format!("worker_clock_off needs {LIBRARY} below /usr/lib: apt-get install faketime"))
}
