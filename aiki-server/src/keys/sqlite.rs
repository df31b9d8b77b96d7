//! Keys in the database of the runs, through a connection of their own.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, ErrorCode, OptionalExtension, params};

use super::{KeyHash, KeyId, KeyStore, KeyStoreError, LIST_LIMIT, Row, StoredKey};
use crate::start_error::ServerStartError;
use crate::storage::sqlite::open_beside;

/// Beside the numbered schema of the runs: whoever opens the file first makes it.
const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS api_keys (
        id TEXT NOT NULL PRIMARY KEY,
        hash TEXT NOT NULL UNIQUE,        -- lowercase hex SHA-256 of the whole key
        namespace TEXT NOT NULL,
        role TEXT NOT NULL,
        status TEXT NOT NULL,
        created_at INTEGER NOT NULL,      -- ms since the epoch
        expires_at INTEGER
    ) STRICT";

/// Keys in a SQLite database, also while a server has it open.
#[derive(Debug)]
pub struct SqliteKeys {
    connection: Mutex<Connection>,
}

impl SqliteKeys {
    /// Opens the keys of the database of that name. The file is made when it is not there.
    ///
    /// # Errors
    /// [`KeyStoreError::Open`]
    pub fn open(path: &Path) -> Result<Self, KeyStoreError> {
        let connection = open_beside(path).map_err(|error| match &error {
            ServerStartError::NewerSchema { .. } | ServerStartError::NotADatabase { .. } => {
                KeyStoreError::Foreign(error.to_string())
            }
            _ => KeyStoreError::Open(error.to_string()),
        })?;
        // Asked first: the server of a file that is in order need not be able to write now.
        let there = connection.table_exists(None, "api_keys").map_err(failed)?;
        if !there {
            connection.execute_batch(TABLE).map_err(failed)?;
        }
        Ok(Self { connection: Mutex::new(connection) })
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failed(error: rusqlite::Error) -> KeyStoreError {
    KeyStoreError::Failed(error.to_string())
}

fn row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    Ok(Row {
        id: row.get(0)?,
        hash: row.get(1)?,
        namespace: row.get(2)?,
        role: row.get(3)?,
        status: row.get(4)?,
        created_at: row.get(5)?,
        expires_at: row.get(6)?,
    })
}

impl KeyStore for SqliteKeys {
    fn add(&self, key: &StoredKey) -> Result<(), KeyStoreError> {
        let sql = format!("INSERT INTO api_keys ({}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)", Row::COLUMNS);
        let (id, hash, expires_at) = (key.id.as_str(), key.hash.to_string(), key.expires_at.map(Row::time));
        let (namespace, role) = (key.namespace.as_str(), key.role.as_str());
        let values = params![id, hash, namespace, role, Row::status(key), Row::time(key.created_at), expires_at];
        match self.connection().execute(&sql, values) {
            Ok(_) => Ok(()),
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                Err(KeyStoreError::Taken(key.id.clone()))
            }
            Err(error) => Err(failed(error)),
        }
    }

    fn find(&self, hash: &KeyHash) -> Result<Option<StoredKey>, KeyStoreError> {
        let sql = format!("SELECT {} FROM api_keys WHERE hash = ?1", Row::COLUMNS);
        let connection = self.connection();
        let mut statement = connection.prepare_cached(&sql).map_err(failed)?;
        let found = statement.query_row([hash.to_string()], row).optional().map_err(failed)?;
        found.map(Row::into_key).transpose()
    }

    fn list(&self) -> Result<Vec<StoredKey>, KeyStoreError> {
        let sql = format!("SELECT {} FROM api_keys ORDER BY created_at, id LIMIT ?1", Row::COLUMNS);
        let connection = self.connection();
        let mut statement = connection.prepare(&sql).map_err(failed)?;
        let rows = statement.query_map([LIST_LIMIT as i64], row).map_err(failed)?;
        rows.map(|row| row.map_err(failed)?.into_key()).collect()
    }

    fn revoke(&self, id: &KeyId) -> Result<bool, KeyStoreError> {
        let sql = "UPDATE api_keys SET status = 'revoked' WHERE id = ?1";
        Ok(self.connection().execute(sql, [id.as_str()]).map_err(failed)? > 0)
    }

    fn any(&self) -> Result<bool, KeyStoreError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM api_keys)";
        self.connection().query_row(sql, [], |row| row.get(0)).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aiki_core::{Name, Timestamp};

    use crate::Server;
    use crate::http::Role;
    use crate::keys::NewKey;

    fn key() -> StoredKey {
        NewKey::random().unwrap().stored(Name::new("n"), Role::Client, Timestamp::EPOCH, None)
    }

    #[test]
    fn a_database_keeps_keys() {
        let folder = tempfile::tempdir().unwrap();
        super::super::tests::keeps_keys(&SqliteKeys::open(&folder.path().join("aiki.db")).unwrap());
    }

    #[tokio::test]
    async fn keys_come_and_go_while_a_server_has_the_file_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("aiki.db");
        let server = Server::builder().sqlite(&path).start().await.unwrap();
        let (one, other) = (SqliteKeys::open(&path).unwrap(), SqliteKeys::open(&path).unwrap());
        let key = key();
        one.add(&key).unwrap();
        assert_eq!(other.find(&key.hash).unwrap(), Some(key.clone()));
        assert!(other.revoke(&key.id).unwrap());
        assert!(one.find(&key.hash).unwrap().unwrap().revoked);
        let second = Server::builder().sqlite(&path).start().await.unwrap_err();
        assert!(matches!(second, ServerStartError::Locked { .. }), "{second}");
        server.close().await;
    }

    #[tokio::test]
    async fn a_file_that_keys_have_made_is_the_servers_as_well() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("aiki.db");
        let key = key();
        SqliteKeys::open(&path).unwrap().add(&key).unwrap();
        let server = Server::builder().sqlite(&path).start().await.unwrap();
        server.close().await;
        assert_eq!(SqliteKeys::open(&path).unwrap().list().unwrap(), [key]);
    }

    #[test]
    fn another_programs_file_gets_no_table_of_keys() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("other.db");
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
        let error = SqliteKeys::open(&path).unwrap_err();
        assert!(error.to_string().contains("not a database of Aiki"), "{error}");
        assert!(!Connection::open(&path).unwrap().table_exists(None, "api_keys").unwrap());
    }
}
