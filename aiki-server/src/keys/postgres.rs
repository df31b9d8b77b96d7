//! Keys in a Postgres database.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use postgres::error::SqlState;
use postgres::{Client, Config, NoTls};

use super::{KeyHash, KeyId, KeyStore, KeyStoreError, LIST_LIMIT, Row, StoredKey};

/// In a schema of its own: that of the runs is made and checked by their store, whoever comes first. Two programs
/// that start at the same time would both make the table: one waits for the other.
const TABLE: &str = "
    BEGIN;
    SELECT pg_advisory_xact_lock(4702958882610);
    CREATE SCHEMA IF NOT EXISTS aiki_keys;
    CREATE TABLE IF NOT EXISTS aiki_keys.api_keys (
        id TEXT NOT NULL PRIMARY KEY,
        hash TEXT NOT NULL UNIQUE,
        namespace TEXT NOT NULL,
        role TEXT NOT NULL,
        status TEXT NOT NULL,
        created_at BIGINT NOT NULL,
        expires_at BIGINT
    );
    COMMIT";

/// How long it may take to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a statement may take.
const STATEMENT_TIMEOUT: &str = "SET statement_timeout = '5s'";

/// Keys in a Postgres database, through one connection of their own. It is made anew when it breaks.
pub struct PostgresKeys {
    config: Config,
    client: Mutex<Option<Client>>,
}

impl PostgresKeys {
    /// Connects, and makes the table when it is not there. Blocks; not to be called on a thread that runs
    /// async tasks.
    ///
    /// # Errors
    /// [`KeyStoreError::Open`]; its text never repeats the address, which may hold a password.
    pub fn open(url: &str) -> Result<Self, KeyStoreError> {
        let mut config: Config = url.parse().map_err(|_| {
            KeyStoreError::Open("the Postgres URL cannot be read: see that it is postgres://...".into())
        })?;
        config.connect_timeout(CONNECT_TIMEOUT).application_name("aiki-keys");
        let mut client = connect(&config)?;
        let there = client.query_one("SELECT to_regclass('aiki_keys.api_keys') IS NOT NULL", &[]).map_err(failed)?;
        if !there.get::<_, bool>(0) {
            client.batch_execute(TABLE).map_err(failed)?;
        }
        Ok(Self { config, client: Mutex::new(Some(client)) })
    }

    fn with<T>(&self, ask: impl FnOnce(&mut Client) -> Result<T, postgres::Error>) -> Result<T, KeyStoreError> {
        let mut place = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        let mut client = match place.take() {
            Some(client) if !client.is_closed() => client,
            _ => connect(&self.config)?,
        };
        let answer = ask(&mut client);
        *place = Some(client);
        answer.map_err(failed)
    }
}

fn connect(config: &Config) -> Result<Client, KeyStoreError> {
    let mut client = config
        .connect(NoTls)
        .map_err(|error| KeyStoreError::Open(format!("Postgres cannot be reached: {}", reason(&error))))?;
    client.batch_execute(STATEMENT_TIMEOUT).map_err(failed)?;
    Ok(client)
}

fn failed(error: postgres::Error) -> KeyStoreError {
    KeyStoreError::Failed(reason(&error))
}

/// The error with what is behind it.
fn reason(error: &postgres::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn row(row: &postgres::Row) -> Row {
    Row {
        id: row.get(0),
        hash: row.get(1),
        namespace: row.get(2),
        role: row.get(3),
        status: row.get(4),
        created_at: row.get(5),
        expires_at: row.get(6),
    }
}

impl KeyStore for PostgresKeys {
    fn add(&self, key: &StoredKey) -> Result<(), KeyStoreError> {
        let sql = format!("INSERT INTO aiki_keys.api_keys ({}) VALUES ($1, $2, $3, $4, $5, $6, $7)", Row::COLUMNS);
        let (id, hash, expires_at) = (key.id.as_str(), key.hash.to_string(), key.expires_at.map(Row::time));
        let (namespace, role) = (key.namespace.as_str(), key.role.as_str());
        let (status, created_at) = (Row::status(key), Row::time(key.created_at));
        let taken = self.with(|client| {
            match client.execute(&sql, &[&id, &hash, &namespace, &role, &status, &created_at, &expires_at]) {
                Ok(_) => Ok(false),
                Err(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => Ok(true),
                Err(error) => Err(error),
            }
        })?;
        if taken { Err(KeyStoreError::Taken(key.id.clone())) } else { Ok(()) }
    }

    fn find(&self, hash: &KeyHash) -> Result<Option<StoredKey>, KeyStoreError> {
        let sql = format!("SELECT {} FROM aiki_keys.api_keys WHERE hash = $1", Row::COLUMNS);
        let found = self.with(|client| client.query_opt(&sql, &[&hash.to_string()]))?;
        found.map(|found| row(&found).into_key()).transpose()
    }

    fn list(&self) -> Result<Vec<StoredKey>, KeyStoreError> {
        let sql = format!("SELECT {} FROM aiki_keys.api_keys ORDER BY created_at, id LIMIT {LIST_LIMIT}", Row::COLUMNS);
        let rows = self.with(|client| client.query(&sql, &[]))?;
        rows.iter().map(|found| row(found).into_key()).collect()
    }

    fn revoke(&self, id: &KeyId) -> Result<bool, KeyStoreError> {
        let sql = "UPDATE aiki_keys.api_keys SET status = 'revoked' WHERE id = $1";
        Ok(self.with(|client| client.execute(sql, &[&id.as_str()]))? > 0)
    }

    fn any(&self) -> Result<bool, KeyStoreError> {
        let found = self.with(|client| client.query_one("SELECT EXISTS (SELECT 1 FROM aiki_keys.api_keys)", &[]))?;
        Ok(found.get(0))
    }
}

impl std::fmt::Debug for PostgresKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresKeys").finish_non_exhaustive()
    }
}
