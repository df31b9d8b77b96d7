//! Opening the database.

use std::io;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::checkpoint::Checkpointer;
use super::read::SqliteReads;
use super::schema::{self, SchemaError};
use super::write::SqliteStorage;
use super::{Options, lock, place};
use crate::start_error::ServerStartError;
use crate::storage::{Reads, Storage};

/// Connections for reading.
const READERS: usize = 4;
/// How long a statement waits for a lock of SQLite's own. Nobody else should hold one.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// Statements that are kept prepared, per connection.
const STATEMENTS: usize = 64;

/// The writer and the readers.
pub(crate) type Opened = (Box<dyn Storage>, Vec<Box<dyn Reads>>);

/// Opens the writer and the readers.
pub(crate) fn open(options: Options) -> Result<Opened, ServerStartError> {
    let path = &place::resolve(&options.path)?;
    let lock = lock::take(path).map_err(|error| from_io(path, &error))?;
    let lock = lock.ok_or_else(|| ServerStartError::Locked { path: path.clone() })?;
    // SQLite would create the file with the rights of the umask.
    match lock::private().create_new(true).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(from_io(path, &error)),
        _ => {}
    }
    // Before the log is turned on: that would change another program's file.
    let probe = plain(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    schema::refuse_foreign(&probe).map_err(|error| from_schema(path, error))?;
    drop(probe);
    let mut writer = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    schema::migrate(&mut writer).map_err(|error| from_schema(path, error))?;
    let mut readers: Vec<Box<dyn Reads>> = Vec::with_capacity(READERS);
    for _ in 0..READERS {
        let reader = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        readers.push(Box::new(SqliteReads(reader)));
    }
    let beside = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let checkpointer = Checkpointer::start(beside).map_err(ServerStartError::Thread)?;
    Ok((Box::new(SqliteStorage::new(writer, checkpointer, options.page_limit, lock)), readers))
}

/// Opens one more connection to a database, for a table that is not the server's: beside the server that has
/// the file open, and without its lock. The file is made when it is not there.
#[cfg(feature = "keys")]
pub(crate) fn open_beside(path: &Path) -> Result<Connection, ServerStartError> {
    let path = &place::resolve(path)?;
    match lock::private().create_new(true).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(from_io(path, &error)),
        _ => {}
    }
    let connection = plain(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    schema::claim(&connection).map_err(|error| from_schema(path, error))?;
    use_log(&connection, path)?;
    configure(&connection, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(|error| from_sqlite(path, &error))?;
    Ok(connection)
}

fn connect(path: &Path, access: OpenFlags) -> Result<Connection, ServerStartError> {
    let connection = plain(path, access)?;
    if access.contains(OpenFlags::SQLITE_OPEN_READ_WRITE) {
        use_log(&connection, path)?;
    }
    configure(&connection, access).map_err(|error| from_sqlite(path, &error))?;
    Ok(connection)
}

fn plain(path: &Path, access: OpenFlags) -> Result<Connection, ServerStartError> {
    let failed = |error: rusqlite::Error| from_sqlite(path, &error);
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(failed)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    Ok(connection)
}

/// Turns the write-ahead log on. SQLite does not fail where it cannot have one: it answers the mode that
/// it stays in.
fn use_log(connection: &Connection, path: &Path) -> Result<(), ServerStartError> {
    let answer = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0));
    let mode = answer.map_err(|error| from_sqlite(path, &error))?;
    match mode.eq_ignore_ascii_case("wal") {
        true => Ok(()),
        false => Err(ServerStartError::NoLog { path: path.to_owned(), mode }),
    }
}

fn configure(connection: &Connection, access: OpenFlags) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    if access.contains(OpenFlags::SQLITE_OPEN_READ_WRITE) {
        connection.pragma_update(None, "synchronous", "FULL")?;
        // The log is moved into the database beside the lane, see checkpoint.rs.
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        connection.pragma_update(None, "journal_size_limit", 256 * 1024 * 1024)?;
        // 16 MB, given in KiB below zero. SQLite scans the table of a larger cache at every commit.
        connection.pragma_update(None, "cache_size", -16 * 1024)?;
    }
    connection.pragma_update(None, "temp_store", "MEMORY")
}

fn from_io(path: &Path, error: &io::Error) -> ServerStartError {
    match error.kind() {
        io::ErrorKind::StorageFull => ServerStartError::DiskFull { path: path.to_owned() },
        _ => ServerStartError::File { path: path.to_owned(), reason: error.to_string() },
    }
}

fn from_sqlite(path: &Path, error: &rusqlite::Error) -> ServerStartError {
    let (path, reason) = (path.to_owned(), error.to_string());
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => ServerStartError::DiskFull { path },
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => ServerStartError::NotADatabase { path, reason },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => ServerStartError::Locked { path },
        _ => ServerStartError::File { path, reason },
    }
}

fn from_schema(path: &Path, error: SchemaError) -> ServerStartError {
    match error {
        SchemaError::Foreign(reason) => {
            ServerStartError::NotADatabase { path: path.to_owned(), reason: reason.to_owned() }
        }
        SchemaError::Newer(found) => {
            ServerStartError::NewerSchema { path: path.to_owned(), found, known: schema::LATEST }
        }
        SchemaError::Sqlite(error) => from_sqlite(path, &error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_cannot_have_a_log_is_refused() {
        let connection = Connection::open_in_memory().unwrap();
        let error = use_log(&connection, Path::new("aiki.db")).unwrap_err();
        assert!(matches!(&error, ServerStartError::NoLog { mode, .. } if mode == "memory"), "{error}");
        assert!(error.to_string().contains("local disk"), "{error}");
    }
}
