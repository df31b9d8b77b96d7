//! Moving the write-ahead log into the database, out of the way of commits.
//!
//! The bulk is copied by a thread with a connection of its own while commits go on. What they added
//! meanwhile is little: the lane copies that itself between two commits, and the next commit begins
//! the log from its start.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use rusqlite::Connection;

/// Rows written before the log is moved while there is work.
const BUSY_ROWS: usize = 20_000;
/// Rows written before the log is moved while there is none.
const IDLE_ROWS: usize = 1_000;

pub(super) struct Checkpointer {
    rows: usize,
    wanted: Option<SyncSender<()>>,
    copied: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// Starts the thread.
    pub(super) fn start(connection: Connection) -> std::io::Result<Self> {
        let (wanted, orders) = sync_channel(1);
        let copied = Arc::new(AtomicBool::new(false));
        let done = Arc::clone(&copied);
        let work = move || {
            while orders.recv().is_ok() {
                checkpoint(&connection);
                done.store(true, Ordering::Release);
            }
        };
        let thread = std::thread::Builder::new().name("aiki-checkpoint".into()).spawn(work)?;
        Ok(Self { rows: 0, wanted: Some(wanted), copied, thread: Some(thread) })
    }

    /// Rows were written.
    pub(super) fn count(&mut self, rows: usize) {
        self.rows += rows;
    }

    /// Called on the lane between two commits.
    pub(super) fn maintain(&mut self, lane: &Connection, idle: bool) {
        if self.copied.swap(false, Ordering::Acquire) {
            checkpoint(lane);
        }
        if self.rows >= if idle { IDLE_ROWS } else { BUSY_ROWS }
            && let Some(wanted) = &self.wanted
            && wanted.try_send(()).is_ok()
        {
            self.rows = 0;
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
