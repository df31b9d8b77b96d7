//! Keys in a Postgres database.

use std::sync::{Arc, Mutex, PoisonError};

use tokio_postgres::Error;

use super::{KeyHash, KeyId, KeyStore, KeyStoreError, LIST_LIMIT, Row, StoredKey};
use crate::start_error::ServerStartError;
use crate::storage::StorageError;
use crate::storage::postgres::{Link, Options, Target};

/// A schema of its own: that of the runs is made and checked by their store, whoever comes first.
const SCHEMA: &str = "aiki_keys";

const IS_THERE: &str = "SELECT to_regclass('aiki_keys.api_keys') IS NOT NULL";

/// Two programs that start at the same time would both make the table: one waits for the other.
const TABLE: &str = "
    BEGIN;
    SET LOCAL lock_timeout = '5s';
    SELECT pg_advisory_xact_lock(4702958882610);
    CREATE SCHEMA IF NOT EXISTS aiki_keys;
    CREATE TABLE IF NOT EXISTS aiki_keys.api_keys (
        id TEXT NOT NULL PRIMARY KEY,
        hash TEXT NOT NULL UNIQUE,        -- lowercase hex SHA-256 of the whole key
        namespace TEXT NOT NULL,
        role TEXT NOT NULL,
        status TEXT NOT NULL,
        created_at BIGINT NOT NULL,       -- ms since the epoch
        expires_at BIGINT
    );
    COMMIT";

/// Keys in a Postgres database, through one connection of their own, which is like those of the store: encrypted when
/// the address says so, and made anew when it breaks.
pub struct PostgresKeys {
    link: Mutex<Link>,
}

impl PostgresKeys {
    /// Connects, and makes the table when it is not there. Blocks; not to be called on a thread that runs
    /// async tasks.
    ///
    /// # Errors
    /// [`KeyStoreError::Address`] and [`KeyStoreError::Open`]; their texts never repeat the secret in the address.
    pub fn open(url: &str) -> Result<Self, KeyStoreError> {
        let options = Options { url: url.to_owned(), schema: Some(SCHEMA.to_owned()) };
        let opened = Target::new(&options).map(Arc::new).and_then(|target| {
            let mut link = Link::new(Arc::clone(&target))?;
            link.first(async |client| {
                let refused = |error: Error| target.refused(&error);
                // Asked first: who may only read and write keys need not be able to make tables.
                let there: bool = client.query_one_scalar(IS_THERE, &[]).await.map_err(refused)?;
                if there { Ok(()) } else { client.batch_execute(TABLE).await.map_err(refused) }
            })?;
            Ok(link)
        });
        match opened {
            Ok(link) => Ok(Self { link: Mutex::new(link) }),
            Err(error @ ServerStartError::PostgresUrl { .. }) => Err(KeyStoreError::Address(error.to_string())),
            Err(error) => Err(KeyStoreError::Open(error.to_string())),
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Link) -> Result<T, StorageError>) -> Result<T, KeyStoreError> {
        let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut link).map_err(|error| KeyStoreError::Failed(error.to_string()))
    }
}

fn row(row: &tokio_postgres::Row) -> Result<Row, Error> {
    Ok(Row {
        id: row.try_get(0)?,
        hash: row.try_get(1)?,
        namespace: row.try_get(2)?,
        role: row.try_get(3)?,
        status: row.try_get(4)?,
        created_at: row.try_get(5)?,
        expires_at: row.try_get(6)?,
    })
}

impl KeyStore for PostgresKeys {
    fn add(&self, key: &StoredKey) -> Result<(), KeyStoreError> {
        // The count tells that the id, or by a wonder the hash, is in use.
        const INSERT: &str = "
            INSERT INTO aiki_keys.api_keys (id, hash, namespace, role, status, created_at, expires_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING";
        let (id, hash, expires_at) = (key.id.as_str(), key.hash.to_string(), key.expires_at.map(Row::time));
        let (namespace, role) = (key.namespace.as_str(), key.role.as_str());
        let (status, created_at) = (Row::status(key), Row::time(key.created_at));
        // Once: had a lost answer been a success, the second try would call the key taken.
        let added = self.with(|link| {
            link.once(async |session| {
                let insert = session.prepare(INSERT).await?;
                let values: [&(dyn tokio_postgres::types::ToSql + Sync); 7] =
                    [&id, &hash, &namespace, &role, &status, &created_at, &expires_at];
                session.client.execute(&insert, &values).await
            })
        })?;
        if added == 0 { Err(KeyStoreError::Taken(key.id.clone())) } else { Ok(()) }
    }

    fn find(&self, hash: &KeyHash) -> Result<Option<StoredKey>, KeyStoreError> {
        const SELECT: &str = "
            SELECT id, hash, namespace, role, status, created_at, expires_at FROM aiki_keys.api_keys WHERE hash = $1";
        let hash = hash.to_string();
        let found = self.with(|link| {
            link.ask(async |session| {
                let select = session.prepare(SELECT).await?;
                session.client.query_opt(&select, &[&hash]).await?.map(|found| row(&found)).transpose()
            })
        })?;
        found.map(Row::into_key).transpose()
    }

    fn list(&self) -> Result<Vec<StoredKey>, KeyStoreError> {
        const SELECT: &str = "
            SELECT id, hash, namespace, role, status, created_at, expires_at FROM aiki_keys.api_keys
            ORDER BY created_at, id LIMIT $1";
        let limit = LIST_LIMIT as i64;
        let rows = self.with(|link| {
            link.ask(async |session| {
                let select = session.prepare(SELECT).await?;
                session.client.query(&select, &[&limit]).await?.iter().map(row).collect::<Result<Vec<_>, _>>()
            })
        })?;
        rows.into_iter().map(Row::into_key).collect()
    }

    fn revoke(&self, id: &KeyId) -> Result<bool, KeyStoreError> {
        const UPDATE: &str = "UPDATE aiki_keys.api_keys SET status = 'revoked' WHERE id = $1";
        let id = id.as_str();
        let revoked = self.with(|link| {
            // Twice is harmless.
            link.ask(async |session| {
                let update = session.prepare(UPDATE).await?;
                session.client.execute(&update, &[&id]).await
            })
        })?;
        Ok(revoked > 0)
    }

    fn any(&self) -> Result<bool, KeyStoreError> {
        const SELECT: &str = "SELECT EXISTS (SELECT 1 FROM aiki_keys.api_keys)";
        self.with(|link| {
            link.ask(async |session| {
                let select = session.prepare(SELECT).await?;
                session.client.query_one_scalar(&select, &[]).await
            })
        })
    }
}

impl std::fmt::Debug for PostgresKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresKeys").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aiki_core::{Name, Timestamp};
    use test_postgres::PostgresServer;

    use crate::http::Role;
    use crate::keys::NewKey;

    async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        tokio::task::spawn_blocking(work).await.unwrap()
    }

    fn key(expires_at: Option<Timestamp>) -> StoredKey {
        NewKey::random().unwrap().stored(Name::new("n"), Role::Client, Timestamp::EPOCH, expires_at)
    }

    #[tokio::test]
    async fn a_database_keeps_keys_also_over_a_crash() {
        let mut postgres = PostgresServer::start().await;
        let url = postgres.url();
        let store = blocking(move || {
            let store = PostgresKeys::open(&url).unwrap();
            crate::keys::tests::keeps_keys(&store);
            // Who comes second finds the table and what is in it.
            assert_eq!(PostgresKeys::open(&url).unwrap().list().unwrap().len(), 2);
            store
        })
        .await;
        postgres.crash();
        let store = blocking(move || {
            let away = store.any().unwrap_err();
            assert!(
                matches!(&away, KeyStoreError::Failed(_)) && away.to_string().contains("cannot be reached"),
                "{away}"
            );
            store
        })
        .await;
        postgres.restart().await;
        blocking(move || {
            // It waits a little between two tries to connect.
            let begun = std::time::Instant::now();
            while store.list().is_err() {
                assert!(begun.elapsed() < std::time::Duration::from_secs(20), "it does not come back");
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            assert_eq!(store.list().unwrap().len(), 2);
        })
        .await;
    }

    #[tokio::test]
    async fn programs_that_start_at_the_same_time_make_one_table() {
        let postgres = PostgresServer::start_with(&["fsync=off"]).await;
        let opening: Vec<_> = (0..8)
            .map(|_| {
                let url = postgres.url();
                tokio::task::spawn_blocking(move || PostgresKeys::open(&url).unwrap().add(&key(None)))
            })
            .collect();
        for opened in opening {
            opened.await.unwrap().unwrap();
        }
        let url = postgres.url();
        assert_eq!(blocking(move || PostgresKeys::open(&url).unwrap().list().unwrap().len()).await, 8);
    }

    #[tokio::test]
    async fn an_expiry_is_as_it_was_given() {
        let url = test_postgres::url().await;
        blocking(move || {
            let store = PostgresKeys::open(&url).unwrap();
            for expires_at in [None, Some(Timestamp::EPOCH), Some(Timestamp::from_millis(1_772_323_200_123))] {
                let key = key(expires_at);
                store.add(&key).unwrap();
                assert_eq!(store.find(&key.hash).unwrap(), Some(key));
            }
        })
        .await;
    }

    #[test]
    fn an_address_that_is_none_does_not_show_its_secret() {
        for url in ["postgres://u:hunter2@", "postgres://u:x@hunter2@h/d", "postgres://u:hunter2@h:port/d"] {
            let error = PostgresKeys::open(url).unwrap_err();
            assert!(matches!(&error, KeyStoreError::Address(_)), "{url}: {error:?}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
