//! Slow commits, by the fail point of the SQLite store (`aiki_server::fail_points`).

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The variable that names the file which makes the commits of a server slow, while it is there.
pub const SLOW_COMMITS: &str = "CAMPAIGN_SLOW_COMMITS";
/// How much later a slow commit is done.
const LATER: Duration = Duration::from_millis(500);

/// Makes the commits of this process, a server, wait while the file is there. Does nothing without the variable.
pub fn arm() {
    let Some(file) = std::env::var_os(SLOW_COMMITS).map(PathBuf::from) else { return };
    let armed = aiki_server::fail_points::before_commit(move || {
        if !file.exists() {
            return;
        }
        std::thread::sleep(LATER);
        // A byte for each: so they are counted, also when the server does not live to tell.
        let met = OpenOptions::new().create(true).append(true).open(met(&file));
        if let Err(error) = met.and_then(|mut met| met.write_all(b".")) {
            eprintln!("a slow commit cannot be noted: {error}");
        }
    });
    if let Err(taken) = armed {
        eprintln!("commits cannot be made slow: {taken}");
    }
}

fn met(file: &Path) -> PathBuf {
    file.with_extension("met")
}

/// Commits are slow. They are fast again with this value's end.
#[derive(Debug)]
pub struct SlowCommits {
    file: PathBuf,
    met_before: u64,
}

impl SlowCommits {
    /// Of the server that was told of this file.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn begin(file: &Path) -> io::Result<Self> {
        let met_before = count(file);
        File::create(file)?;
        Ok(Self { file: file.to_owned(), met_before })
    }

    /// Ends it. Answers how many commits have waited.
    pub fn end(self) -> u64 {
        count(&self.file) - self.met_before
    }
}

impl Drop for SlowCommits {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.file) {
            eprintln!("{} cannot be removed, commits stay slow: {error}", self.file.display());
        }
    }
}

fn count(file: &Path) -> u64 {
    std::fs::metadata(met(file)).map_or(0, |data| data.len())
}
