//! The store in a Postgres database, which several servers may share.
//!
//! Nobody holds a lock while it waits for a client: a batch is read, planned, and committed in one pipelined round
//! trip whose statements are fenced by versions. Only lists of due and ready runs lock what they name, for as long as
//! the batch is planned, so that two servers do not plan the same runs.
//!
//! | file | what |
//! |---|---|
//! | `config.rs` | what an address means, and what is wrong with it |
//! | `open.rs` | the connections of a server |
//! | `link.rs` | one connection that comes back by itself |
//! | `schema.rs` | tables, indexes, migrations |
//! | `columns.rs` | values as columns |
//! | `read.rs` | questions |
//! | `write.rs` | the questions of the lane, and the commit |
//! | `commit.rs` | the statements of a commit |
//! | `schedules.rs` | the table of schedules |
//! | `listing.rs`, `workflows.rs` | lists and statistics |
//! | `peers.rs` | what servers tell each other |

mod columns;
mod commit;
mod config;
mod link;
mod listing;
mod open;
mod peers;
mod read;
mod schedules;
mod schema;
mod workflows;
mod write;

use std::time::Duration;

use tokio_postgres::error::{Error, Severity, SqlState};

use super::StorageError;
pub(crate) use config::{Options, Target};
#[cfg(feature = "keys")]
pub(crate) use link::Link;
pub(crate) use open::{Opened, open};
pub(crate) use peers::{PeerLink, PeerSession};

/// Connections for reading.
const READERS: usize = 4;
/// How long a connection may take to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// The longest that a statement may take, by the database.
const STATEMENT_LIMIT: Duration = Duration::from_secs(5);
/// The longest wait for a lock. Others hold theirs for a commit; a server that was stopped is cut off by
/// [`IDLE_LIMIT`].
const LOCK_LIMIT: Duration = Duration::from_millis(250);
/// The longest that a transaction may wait for its server. Ours wait for as long as a batch is planned.
const IDLE_LIMIT: Duration = Duration::from_secs(2);
/// The longest that a server waits for an answer, whatever happened to the database.
const ANSWER_LIMIT: Duration = Duration::from_secs(6);
/// The pause after a connection that could not be made; doubles. Requests are refused at once meanwhile.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What the function `fence` raises when a row is not as it was read.
const FENCED: &str = "AK001";
/// What the function `known_to` raises when a newer version has changed the tables.
const OUTDATED: &str = "AK002";

impl From<Error> for StorageError {
    fn from(error: Error) -> Self {
        let reason = describe(&error);
        if is_lost(&error) {
            return StorageError::Unreachable(reason);
        }
        match error.code() {
            Some(code) if code.code() == FENCED => StorageError::Contended,
            Some(code) if code.code() == OUTDATED => StorageError::Outdated(reason),
            Some(
                &SqlState::UNIQUE_VIOLATION | &SqlState::T_R_SERIALIZATION_FAILURE | &SqlState::T_R_DEADLOCK_DETECTED,
            ) => StorageError::Contended,
            Some(&SqlState::LOCK_NOT_AVAILABLE) => StorageError::Locked,
            Some(&SqlState::DISK_FULL) => StorageError::Full,
            Some(&SqlState::DATA_CORRUPTED | &SqlState::INDEX_CORRUPTED) => StorageError::Damaged(reason),
            Some(&SqlState::CHARACTER_NOT_IN_REPERTOIRE | &SqlState::UNTRANSLATABLE_CHARACTER) => {
                StorageError::Unfit(reason)
            }
            _ => StorageError::Failed(reason),
        }
    }
}

/// What the database or the operating system said.
fn describe(error: &Error) -> String {
    match error.as_db_error() {
        Some(said) => format!("{} ({})", said.message(), said.code().code()),
        None => match std::error::Error::source(error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
    }
}

/// Whether the connection is of no use any more.
fn is_lost(error: &Error) -> bool {
    match error.as_db_error() {
        // The database ends the session.
        Some(said) => matches!(said.parsed_severity(), Some(Severity::Fatal | Severity::Panic)),
        None => {
            error.is_closed() || std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>())
        }
    }
}
