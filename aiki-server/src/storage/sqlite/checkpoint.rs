//! Moving the write-ahead log into the database, out of the way of commits.
//!
//! The bulk is copied by a thread with a connection of its own while commits go on. What they added
//! meanwhile is little: the lane copies that itself between two commits, and the next commit begins
//! the log from its start. When the thread does not keep up, the lane waits for it: the log is bounded.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use rusqlite::Connection;

/// The log is moved while there is work, once so much was written.
const BUSY: Written = Written { rows: 20_000, bytes: 32_000_000 };
/// The log is moved while there is none, once so much was written.
const IDLE: Written = Written { rows: 1_000, bytes: 4_000_000 };
/// The lane waits for the thread once so much was written while it copied.
const WAIT: Written = Written { rows: 100_000, bytes: 32_000_000 };

/// What went into the log.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Written {
    pub(super) rows: usize,
    /// Of heads, tails and pages of histories.
    pub(super) bytes: usize,
}

impl Written {
    fn reaches(self, limit: Written) -> bool {
        self.rows >= limit.rows || self.bytes >= limit.bytes
    }
}

pub(super) struct Checkpointer {
    /// Since the last order to the thread.
    written: Written,
    wanted: Option<SyncSender<()>>,
    copied: Receiver<()>,
    /// The thread copies, or has copied and the lane has not followed yet.
    busy: bool,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// Starts the thread.
    pub(super) fn start(connection: Connection) -> std::io::Result<Self> {
        // One order is under way at most: no side ever waits to send.
        let (wanted, orders) = sync_channel(1);
        let (done, copied) = sync_channel(1);
        let work = move || {
            while orders.recv().is_ok() {
                checkpoint(&connection);
                if done.send(()).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("aiki-checkpoint".into()).spawn(work)?;
        Ok(Self { written: Written::default(), wanted: Some(wanted), copied, busy: false, thread: Some(thread) })
    }

    /// A commit was made.
    pub(super) fn count(&mut self, written: Written) {
        self.written.rows += written.rows;
        self.written.bytes += written.bytes;
    }

    /// Called on the lane between two commits.
    pub(super) fn maintain(&mut self, lane: &Connection, idle: bool) {
        if self.busy && self.is_copied() {
            self.busy = false;
            checkpoint(lane);
        }
        if !self.busy
            && self.written.reaches(if idle { IDLE } else { BUSY })
            && let Some(wanted) = &self.wanted
            && wanted.try_send(()).is_ok()
        {
            self.busy = true;
            self.written = Written::default();
        }
    }

    fn is_copied(&self) -> bool {
        match self.written.reaches(WAIT) {
            true => self.copied.recv().is_ok(),
            false => self.copied.try_recv().is_ok(),
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.wanted = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the checkpoints panicked");
        }
    }
}

/// A passive checkpoint waits for nobody: what readers still need stays for the next one.
fn checkpoint(connection: &Connection) {
    let moved = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
    if let Err(error) = moved {
        tracing::warn!(%error, "the log could not be moved into the database; it is tried again later");
    }
}
