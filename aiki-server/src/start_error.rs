//! Why a server did not start.

use std::path::PathBuf;

use crate::storage::StorageError;

/// Why a server did not start. Each text says what to do.
#[derive(thiserror::Error)]
pub enum ServerStartError {
    /// Another server has the file open.
    #[error("{path} is in use by another server: stop that one first, or give this one another file")]
    Locked {
        /// The database file.
        path: PathBuf,
    },
    /// What was given is not the path of a file.
    #[error(
        "`{path}` is not the path of a database file: {reason}. Give the plain path of a file, or keep the runs in \
         memory with `Server::in_memory()` or `Server::builder().memory()`"
    )]
    NotAPath {
        /// What was given.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// SQLite cannot have its write-ahead log beside the file.
    #[error(
        "{path} cannot have a write-ahead log, its journal mode stays `{mode}`: move the file to a local disk whose \
         file system has locks and shared memory"
    )]
    NoLog {
        /// The database file.
        path: PathBuf,
        /// SQLite's name of the mode.
        mode: String,
    },
    /// The file is something else.
    #[error("{path} is not a database of Aiki ({reason}): give the server another file, or move this one away")]
    NotADatabase {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file is from a newer version of Aiki.
    #[error("{path} has schema {found}, this version of Aiki knows schemas up to {known}: use the newer version")]
    NewerSchema {
        /// The database file.
        path: PathBuf,
        /// The file's schema.
        found: i64,
        /// The latest schema that this version knows.
        known: i64,
    },
    /// The folder of the file is missing.
    #[error("there is no folder {path}: create it first")]
    DirectoryMissing {
        /// The folder.
        path: PathBuf,
    },
    /// The disk is full.
    #[error("the disk of {path} is full: free some space and start again")]
    DiskFull {
        /// The database file.
        path: PathBuf,
    },
    /// The file cannot be opened, read or written.
    #[error("{path} cannot be used ({reason}): see that it is a file that this program may read and write")]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system or the database said.
        reason: String,
    },
    /// What was given is not the address of a Postgres database.
    #[error(
        "this is not the address of a Postgres database: {reason}. Give one such as postgres://user:secret@host/database"
    )]
    PostgresUrl {
        /// What is wrong with it. The address itself is left out, it may hold a secret.
        reason: String,
    },
    /// Nobody answers at the address.
    #[error(
        "the Postgres server of {place} cannot be reached ({reason}): see that it runs and that the address is right"
    )]
    PostgresUnreachable {
        /// Host, port and database.
        place: String,
        /// What the operating system or the database said.
        reason: String,
    },
    /// The user is not let in.
    #[error(
        "the Postgres server of {place} does not let the user in ({reason}): see that the user and the secret in the \
         address are right, and add `?sslmode=require` if it wants encryption"
    )]
    PostgresLogin {
        /// Host, port and database.
        place: String,
        /// What the database said.
        reason: String,
    },
    /// The database is missing.
    #[error("there is no database {place}: create it first, for example with createdb")]
    PostgresNoDatabase {
        /// Host, port and database.
        place: String,
    },
    /// The user may not make the tables.
    #[error(
        "the user may not use the schema `{schema}` of {place} ({reason}): let its owner create it and grant all \
         rights in it to the user"
    )]
    PostgresRights {
        /// Host, port and database.
        place: String,
        /// The schema of the tables.
        schema: String,
        /// What the database said.
        reason: String,
    },
    /// The database is older than what is supported.
    #[error("{place} is Postgres {found}, Aiki needs {oldest} or later: upgrade it")]
    PostgresTooOld {
        /// Host, port and database.
        place: String,
        /// Its version.
        found: i32,
        /// The oldest version that is supported.
        oldest: i32,
    },
    /// The schema has tables of another program.
    #[error(
        "the schema `{schema}` of {place} belongs to another program: give the server another one with `postgres_schema`"
    )]
    PostgresForeign {
        /// Host, port and database.
        place: String,
        /// The schema.
        schema: String,
    },
    /// The tables are from a newer version of Aiki.
    #[error(
        "{place} has tables of version {found} in `{schema}`, this version of Aiki knows up to {known}: use the newer version"
    )]
    PostgresNewerSchema {
        /// Host, port and database.
        place: String,
        /// The schema of the tables.
        schema: String,
        /// The version of the tables.
        found: i64,
        /// The latest version that this version of Aiki knows.
        known: i64,
    },
    /// Encryption was asked for and cannot be had.
    #[error("there is no encrypted connection to Postgres: {reason}")]
    PostgresTls {
        /// What is wrong.
        reason: String,
    },
    /// The store was opened but cannot be read.
    #[error("the store was opened but cannot be read: {0}")]
    Store(String),
    /// A thread could not be started.
    #[error("the server's thread cannot be started ({0}): raise the limit of threads of this process")]
    Thread(std::io::Error),
}

aiki_core::debug_as_display!(ServerStartError);

impl ServerStartError {
    pub(crate) fn store(error: StorageError) -> Self {
        ServerStartError::Store(error.to_string())
    }
}
