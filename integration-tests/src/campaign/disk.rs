//! A small disk for the database, and what is wrong with disks.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;

/// How large a small disk is.
const MEGABYTES: u64 = 32;
/// How much later every fsync of a slow disk begins, in microseconds.
const LATER_US: u64 = 500_000;
/// How long `strace` may take to begin or to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// A file system in memory. It is unmounted with this value.
#[derive(Debug)]
pub struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    /// Mounts it at this directory, which it makes.
    ///
    /// # Errors
    /// When the system refuses, as it does to anybody but root.
    pub fn mount(folder: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let size = format!("size={MEGABYTES}m");
        let output = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder).output()?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            let text = format!("--small-disk: no file system can be mounted, run as root: {}", text.trim());
            return Err(io::Error::other(text));
        }
        Ok(Self { folder: folder.to_owned() })
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Who looks for the cause of a violation needs the database.
        let kept = self.folder.with_extension("kept");
        let copied = Command::new("cp").arg("-r").args([&self.folder, &kept]).status();
        // Lazily: a process may still have files open there.
        let unmounted = Command::new("umount").arg("-l").arg(&self.folder).status();
        for (what, status) in [("copied", copied), ("unmounted", unmounted)] {
            if !status.as_ref().is_ok_and(std::process::ExitStatus::success) {
                eprintln!("{} cannot be {what}: {status:?}", self.folder.display());
            }
        }
    }
}

/// What takes all space of a disk. It is gone with this value.
#[derive(Debug)]
pub struct Filling {
    file: PathBuf,
}

impl Filling {
    /// Takes what is left.
    ///
    /// # Errors
    /// When anything but the lack of space ends it.
    pub fn of(folder: &Path) -> io::Result<Self> {
        let filling = Self { file: folder.join("filling") };
        let mut file = File::create(&filling.file)?;
        // The last page as well: small writes when the large ones do not fit any more.
        for size in [1 << 20, 4_096] {
            let zeros = vec![0_u8; size];
            for _ in 0..=MEGABYTES << 20 >> 12 {
                match file.write_all(&zeros) {
                    Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                    other => other?,
                }
            }
        }
        Ok(filling)
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.file) {
            eprintln!("{} cannot be removed: {error}", self.file.display());
        }
    }
}

/// Empties SQLite's log of changes, so that the next commit needs space. A log that is written once more from its start
/// has the space that it needs, and a full disk would be nobody's trouble.
///
/// # Errors
/// When the database cannot be opened. That it is busy is none: then the log stays.
pub fn give_back_log(database: &Path) -> rusqlite::Result<()> {
    let connection = rusqlite::Connection::open(database)?;
    connection.busy_timeout(Duration::from_millis(200))?;
    let _ = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    Ok(())
}

/// A tracer that lets every fsync of a process begin later. The process goes on with this value's end.
#[derive(Debug)]
pub struct SlowSync {
    tracer: Child,
    log: PathBuf,
}

impl SlowSync {
    /// Whether there is such a tracer here.
    ///
    /// # Errors
    /// One line that says what to do.
    pub fn available() -> Result<(), String> {
        installed("strace", "disk_slow")
    }

    /// Begins, and waits until the process is under it. What it sees goes to `log`.
    ///
    /// # Errors
    /// When it may not trace that process.
    pub async fn of(process: u32, log: &Path) -> io::Result<Self> {
        let begins = log.with_extension("begins");
        let mut command = Command::new("strace");
        command.args(["-f", "-e", "trace=fsync,fdatasync", "-e"]);
        command.arg(format!("inject=fsync,fdatasync:delay_enter={LATER_US}"));
        command.arg("-o").arg(log).args(["-p", &process.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&begins)?);
        let mut slow = Self { tracer: command.spawn()?, log: log.to_owned() };
        let begun = Instant::now();
        while !std::fs::read_to_string(&begins)?.contains("attached") {
            let ended = slow.tracer.try_wait()?;
            if ended.is_some() || begun.elapsed() > PATIENCE {
                let text = std::fs::read_to_string(&begins)?;
                return Err(io::Error::other(format!("strace does not begin ({ended:?}): {}", text.trim())));
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(slow)
    }

    /// Ends it. Answers how many fsyncs it has made late.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn end(mut self) -> io::Result<u64> {
        let tracer = i32::try_from(self.tracer.id()).ok().and_then(Pid::from_raw);
        // Told, not killed: it must let go of its process in good order.
        kill_process(tracer.ok_or_else(|| io::Error::other("no process"))?, Signal::INT)?;
        let begun = Instant::now();
        while self.tracer.try_wait()?.is_none() {
            if begun.elapsed() > PATIENCE {
                return Err(io::Error::other("strace does not end"));
            }
            sleep(Duration::from_millis(10)).await;
        }
        let text = std::fs::read_to_string(&self.log)?;
        Ok(text.lines().filter(|line| line.contains("(DELAYED)")).count() as u64)
    }
}

impl Drop for SlowSync {
    fn drop(&mut self) {
        let _ = self.tracer.kill();
        let _ = self.tracer.wait();
    }
}

/// Whether this program is here, which a kind of fault needs.
///
/// # Errors
/// One line that says what to do.
pub fn installed(program: &str, kind: &str) -> Result<(), String> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        _ => Err(format!("{kind} needs {program}, which is not here: apt-get install {program}, or leave {kind} out")),
    }
}
