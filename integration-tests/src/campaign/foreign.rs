//! A foreign process that has the database locked.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use clap::Args;

use super::house::{Broken, House};
use super::process::Process;

/// What it says when it has the lock.
const HAS_IT: &str = "has the lock\n";
/// How long it tries to get it. The server gives way between two commits.
const PATIENCE: Duration = Duration::from_secs(20);

/// A process that locks a SQLite file until its input ends.
#[derive(Clone, Debug, Args)]
pub struct LockArguments {
    /// The file
    #[arg(long)]
    pub database: PathBuf,
}

/// Locks the file for everybody who writes, until the input ends or the process does.
///
/// # Errors
/// When there is no such database, or it cannot be locked in good time.
pub fn lock(arguments: &LockArguments) -> Result<(), Broken> {
    let connection = rusqlite::Connection::open(&arguments.database)?;
    connection.busy_timeout(PATIENCE)?;
    connection.execute_batch("BEGIN EXCLUSIVE")?;
    print!("{HAS_IT}");
    std::io::Write::flush(&mut std::io::stdout())?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Starts one. The lock is let go of with this value.
///
/// # Errors
/// When it does not get the lock.
pub async fn locker(house: &House, since: u64) -> Result<Process, Broken> {
    let file = house.file().ok_or("only a SQLite file can be locked")?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("lock").arg("--database").arg(file).stdin(Stdio::piped());
    Ok(Process::start(command, house.logs().join(format!("lock-{since}.log")), HAS_IT).await?)
}
