//! Where a test program may make trouble. Only with the feature `fail-points`, which no default has: without it, none of
//! this is compiled.

use std::fmt;
use std::sync::OnceLock;

type Hook = Box<dyn Fn() + Send + Sync>;

static BEFORE_COMMIT: OnceLock<Hook> = OnceLock::new();

/// There is one already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken;

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this process has a hook before its commits already: give one, and only once")
    }
}

impl std::error::Error for Taken {}

/// Calls this before every commit of every SQLite store of this process, on the thread that commits and with the lock of
/// the database taken, where a disk with a slow fsync would hold it up. It may block.
///
/// # Errors
/// [`Taken`] from the second time on.
pub fn before_commit(hook: impl Fn() + Send + Sync + 'static) -> Result<(), Taken> {
    BEFORE_COMMIT.set(Box::new(hook)).map_err(|_| Taken)
}

/// A commit is about to be done.
pub(crate) fn committing() {
    if let Some(hook) = BEFORE_COMMIT.get() {
        hook();
    }
}
