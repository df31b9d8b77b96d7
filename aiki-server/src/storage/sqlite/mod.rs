//! The store in a SQLite database: one writer on the lane's thread, a few connections for reading.
//!
//! | file | what |
//! |---|---|
//! | `place.rs` | which file a path means |
//! | `open.rs` | lock, checks, settings |
//! | `schema.rs` | tables, indexes, migrations |
//! | `read.rs` | questions |
//! | `listing.rs` | lists of runs |
//! | `workflows.rs` | the table of workflow versions |
//! | `schedules.rs` | the table of schedules |
//! | `write.rs` | the commit |
//! | `checkpoint.rs` | moving the log into the database beside the lane |

mod checkpoint;
mod listing;
mod lock;
mod open;
mod place;
mod read;
mod schedules;
mod schema;
mod workflows;
mod write;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use aiki_core::rank::Rank;
use aiki_core::{RunId, Timestamp};
use rusqlite::ErrorCode;

use super::StorageError;
#[cfg(feature = "keys")]
pub(crate) use open::open_beside;
pub(crate) use open::{Opened, open};

/// Which file, and how.
pub(crate) struct Options {
    pub(crate) path: PathBuf,
    /// Limits the file's pages, for tests of a full disk.
    pub(crate) page_limit: Option<Arc<AtomicU32>>,
}

impl From<rusqlite::Error> for StorageError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => StorageError::Full,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StorageError::Damaged(error.to_string()),
            _ => StorageError::Failed(error.to_string()),
        }
    }
}

/// SQLite's integers have a sign: what lies beyond is as good as never.
fn to_column(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn to_rank(column: i64) -> Rank {
    Rank::from_u64(u64::try_from(column).unwrap_or(0))
}

fn to_timestamp(column: i64) -> Timestamp {
    Timestamp::from_millis(u64::try_from(column).unwrap_or(0))
}

fn to_run_id(column: &[u8]) -> Result<RunId, StorageError> {
    let bytes = <[u8; 16]>::try_from(column).map_err(|_| StorageError::Damaged("an id is not 16 bytes long".into()))?;
    Ok(RunId::from_bits(u128::from_be_bytes(bytes)))
}
