//! Keys in memory.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{KeyHash, KeyId, KeyStore, KeyStoreError, LIST_LIMIT, StoredKey};

/// Keys that are gone when the program ends.
#[derive(Debug, Default)]
pub struct MemoryKeys {
    keys: Mutex<Vec<StoredKey>>,
}

impl MemoryKeys {
    fn keys(&self) -> MutexGuard<'_, Vec<StoredKey>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeyStore for MemoryKeys {
    fn add(&self, key: &StoredKey) -> Result<(), KeyStoreError> {
        let mut keys = self.keys();
        if keys.iter().any(|other| other.id == key.id) {
            return Err(KeyStoreError::Taken(key.id.clone()));
        }
        keys.push(key.clone());
        Ok(())
    }

    fn find(&self, hash: &KeyHash) -> Result<Option<StoredKey>, KeyStoreError> {
        Ok(self.keys().iter().find(|key| key.hash == *hash).cloned())
    }

    fn list(&self) -> Result<Vec<StoredKey>, KeyStoreError> {
        let mut keys = self.keys().clone();
        keys.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        keys.truncate(LIST_LIMIT);
        Ok(keys)
    }

    fn revoke(&self, id: &KeyId) -> Result<bool, KeyStoreError> {
        let mut keys = self.keys();
        let found = keys.iter_mut().find(|key| key.id == *id);
        Ok(found.map(|key| key.revoked = true).is_some())
    }

    fn any(&self) -> Result<bool, KeyStoreError> {
        Ok(!self.keys().is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_keeps_keys() {
        super::super::tests::keeps_keys(&MemoryKeys::default());
    }
}
