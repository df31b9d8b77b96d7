//! API keys: who may ask, in which namespace, for how much.
//!
//! A key is `aiki_` + 8 hex digits + `_` + a secret of 256 bits. The digits are its id; they show in
//! lists and logs. What is stored is the SHA-256 of the whole key, as lowercase hex, and a key is
//! looked up by that hash. So nothing compares secrets: how long a lookup takes tells at most something
//! about a hash, from which no key can be made. A slow hash would gain nothing over 256 random bits.

mod authorize;
mod key;
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
mod ring;
#[cfg(feature = "sqlite")]
mod sqlite;

use aiki_core::{Name, Timestamp};

use crate::http::Role;

pub use key::{KeyFormatError, KeyHash, KeyId, NewKey};
pub use memory::MemoryKeys;
#[cfg(feature = "postgres")]
pub use postgres::PostgresKeys;
pub use ring::{Grant, Keyring, KeyringError, LOOKUP_MEMORY};
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteKeys;

/// So many keys are listed at most.
pub const LIST_LIMIT: usize = 10_000;

/// A key as it is stored: without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKey {
    /// Its public part.
    pub id: KeyId,
    /// The SHA-256 of the whole key.
    pub hash: KeyHash,
    /// The only namespace that it opens.
    pub namespace: Name,
    /// How much it permits there.
    pub role: Role,
    /// Whether it was taken back.
    pub revoked: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is not good any more.
    pub expires_at: Option<Timestamp>,
}

/// Why keys cannot be read or written. The text says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyStoreError {
    /// The address of the store cannot be understood.
    #[error("{0}")]
    Address(String),
    /// The store cannot be opened.
    #[error("{0}")]
    Open(String),
    /// The store is another program's, or from a newer version.
    #[error("{0}")]
    Foreign(String),
    /// There is another key with this id: make a new one.
    #[error("there is a key {0} already: make another one")]
    Taken(KeyId),
    /// A row that cannot be understood.
    #[error("the table of keys is damaged or from a newer version: {0}")]
    Damaged(String),
    /// The store did not answer. Trying again may help.
    #[error("the keys cannot be read or written, try again: {0}")]
    Failed(String),
}

/// Keeps keys. Its methods block: call them where that is allowed.
pub trait KeyStore: Send + Sync + 'static {
    /// Adds a key. Durable when it returns.
    ///
    /// # Errors
    /// [`KeyStoreError`]; [`KeyStoreError::Taken`] when the id is in use.
    fn add(&self, key: &StoredKey) -> Result<(), KeyStoreError>;

    /// The key with this hash.
    ///
    /// # Errors
    /// [`KeyStoreError`]
    fn find(&self, hash: &KeyHash) -> Result<Option<StoredKey>, KeyStoreError>;

    /// The oldest keys, at most [`LIST_LIMIT`], by the time when they were made.
    ///
    /// # Errors
    /// [`KeyStoreError`]
    fn list(&self) -> Result<Vec<StoredKey>, KeyStoreError>;

    /// Takes a key back. `false` when there is none with this id. Twice is harmless.
    ///
    /// # Errors
    /// [`KeyStoreError`]
    fn revoke(&self, id: &KeyId) -> Result<bool, KeyStoreError>;

    /// Whether there is any key, be it revoked or expired.
    ///
    /// # Errors
    /// [`KeyStoreError`]
    fn any(&self) -> Result<bool, KeyStoreError>;
}

/// A key from the columns of a row.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
struct Row {
    id: String,
    hash: String,
    namespace: String,
    role: String,
    status: String,
    created_at: i64,
    expires_at: Option<i64>,
}

#[cfg(any(feature = "sqlite", feature = "postgres"))]
impl Row {
    #[cfg(feature = "sqlite")]
    const COLUMNS: &str = "id, hash, namespace, role, status, created_at, expires_at";

    fn status(key: &StoredKey) -> &'static str {
        if key.revoked { "revoked" } else { "active" }
    }

    /// SQL's integers have a sign.
    fn time(at: Timestamp) -> i64 {
        i64::try_from(at.as_millis()).unwrap_or(i64::MAX)
    }

    fn into_key(self) -> Result<StoredKey, KeyStoreError> {
        let damaged = |what: &str| KeyStoreError::Damaged(format!("key {} has {what}", self.id));
        let time = |at: i64| Timestamp::from_millis(u64::try_from(at).unwrap_or_default());
        Ok(StoredKey {
            hash: KeyHash::parse(&self.hash).ok_or_else(|| damaged("a hash that is none"))?,
            role: Role::parse(&self.role).ok_or_else(|| damaged("an unknown role"))?,
            revoked: match self.status.as_str() {
                "active" => false,
                "revoked" => true,
                _ => return Err(damaged("an unknown status")),
            },
            created_at: time(self.created_at),
            expires_at: self.expires_at.map(time),
            namespace: Name::new(&self.namespace),
            id: KeyId::parse(&self.id).map_err(|error| damaged(&error.to_string()))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What every store must do.
    pub(super) fn keeps_keys(store: &dyn KeyStore) {
        assert!(!store.any().unwrap());
        let made = Timestamp::from_millis(1_000);
        let first = NewKey::random().unwrap();
        let stored = first.stored(Name::new("shop"), Role::Worker, made, Some(made));
        store.add(&stored).unwrap();
        assert_eq!(store.add(&stored), Err(KeyStoreError::Taken(stored.id.clone())));
        let second = NewKey::random().unwrap().stored(Name::new("bank"), Role::Admin, Timestamp::EPOCH, None);
        store.add(&second).unwrap();
        assert!(store.any().unwrap());
        assert_eq!(store.find(&KeyHash::of(first.text())).unwrap(), Some(stored.clone()));
        assert_eq!(store.find(&KeyHash::of("aiki_00000000_x")).unwrap(), None);
        assert_eq!(store.list().unwrap(), [second.clone(), stored.clone()]);
        assert!(store.revoke(&stored.id).unwrap());
        assert!(store.revoke(&stored.id).unwrap());
        assert!(!store.revoke(&KeyId::parse("00000000").unwrap()).unwrap());
        assert!(store.find(&stored.hash).unwrap().unwrap().revoked);
        assert!(!store.find(&second.hash).unwrap().unwrap().revoked);
    }
}
