//! A process of the campaign with its log.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;

/// How long a process may take to begin or to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// A process. It is killed with this value.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

/// What a process uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Open file descriptors.
    pub descriptors: u64,
    /// Memory that it has, in KiB.
    pub resident_kb: u64,
}

impl Process {
    /// Starts it, with all that it says in this file, and waits until it has said `word`.
    ///
    /// # Errors
    /// When it ends before that, or takes too long.
    pub async fn start(mut command: Command, log: PathBuf, word: &str) -> io::Result<Self> {
        let file: File = OpenOptions::new().create(true).append(true).open(&log)?;
        let said_before = std::fs::read_to_string(&log)?.len();
        let child = command.stdout(file.try_clone()?).stderr(file).spawn()?;
        let mut process = Self { child, log };
        let begun = Instant::now();
        loop {
            let text = std::fs::read_to_string(&process.log)?;
            let said = text.get(said_before..).unwrap_or_default();
            if said.contains(word) {
                return Ok(process);
            }
            let ended = process.child.try_wait()?;
            if ended.is_some() || begun.elapsed() > PATIENCE {
                let log = process.log.display();
                return Err(io::Error::other(format!("it never says `{word}` ({ended:?}), see {log}: {said}")));
            }
            sleep(PAUSE).await;
        }
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        Ok(kill_process(id.ok_or_else(|| io::Error::other("no process"))?, signal)?)
    }

    /// `kill -9`, and waits until it is gone.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn ended(&mut self) -> io::Result<ExitStatus> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if begun.elapsed() > PATIENCE {
                return Err(io::Error::other(format!("process {} does not end", self.id())));
            }
            sleep(PAUSE).await;
        }
    }

    /// Whether it has ended by itself, and how.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn gone(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// What it uses now.
    pub fn usage(&self) -> Usage {
        let process = Path::new("/proc").join(self.id().to_string());
        let descriptors = std::fs::read_dir(process.join("fd")).map_or(0, |open| open.count() as u64);
        let status = std::fs::read_to_string(process.join("status")).unwrap_or_default();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident_kb = resident.and_then(|text| text.split_whitespace().next()?.parse().ok()).unwrap_or_default();
        Usage { descriptors, resident_kb }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
