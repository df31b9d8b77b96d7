//! The lock that keeps a second server from the same file.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// A file that only its owner may read and write.
pub(super) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Takes the lock of a database; `None` when another server of this or of another process has it.
/// The operating system lets go of it when the process ends, however it ends.
pub(super) fn take(database: &Path) -> io::Result<Option<File>> {
    let mut name = database.as_os_str().to_owned();
    name.push(".lock");
    let file = private().create(true).truncate(false).open(PathBuf::from(name))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}
