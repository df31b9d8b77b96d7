//! Looking keys up, with a short memory.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aiki_core::{Clock, Name};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::{KeyHash, KeyId, KeyStore, KeyStoreError, StoredKey};
use crate::http::Role;

/// A key that was found is not looked up again for this long: a revoked key opens nothing after it.
pub const LOOKUP_MEMORY: Duration = Duration::from_secs(4);
/// The same for one that was not found: a new key opens its namespace after it at the latest.
const MISS_MEMORY: Duration = Duration::from_secs(1);
/// So many keys are remembered.
const REMEMBERED: usize = 10_000;
/// So many lookups are under way at the same time; the others wait.
const LOOKUPS: usize = 4;

/// What a key opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The key; `None` where the server needs none.
    pub key: Option<KeyId>,
    /// The namespace.
    pub namespace: Name,
    /// How much may be done in it.
    pub role: Role,
}

/// Why a key opens nothing. The text is for its holder.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// None was given.
    #[error("this server needs an API key: send `Authorization: Bearer aiki_...`")]
    Missing,
    /// It is not a key of this server.
    #[error("the API key is not known here")]
    Unknown,
    /// It was taken back.
    #[error("the API key was revoked: ask for a new one")]
    Revoked,
    /// Its time is over.
    #[error("the API key has expired: ask for a new one")]
    Expired,
    /// Nobody knows: the keys cannot be read now.
    #[error("the API key cannot be checked now, try again: {0}")]
    Unavailable(#[from] KeyStoreError),
}

#[derive(Clone)]
struct Remembered {
    key: Option<Arc<StoredKey>>,
    until: Instant,
}

#[derive(Default)]
struct Memory {
    keys: HashMap<KeyHash, Remembered>,
    /// Whether there is any key.
    any: Option<(bool, Instant)>,
}

/// Answers what a key opens. Cloning is not needed: share it.
pub struct Keyring {
    store: Arc<dyn KeyStore>,
    clock: Arc<dyn Clock>,
    /// The namespace of those who need no key; `None`: everybody needs one.
    open: Option<Name>,
    memory: Mutex<Memory>,
    lookups: Semaphore,
}

impl Keyring {
    /// Everybody needs a key.
    pub fn new(store: Arc<dyn KeyStore>, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock, open: None, memory: Mutex::default(), lookups: Semaphore::new(LOOKUPS) }
    }

    /// As long as there is not a single key in the store, everybody may do everything in this namespace.
    /// For servers that nobody else can reach.
    pub fn open_until_the_first_key(mut self, namespace: Name) -> Self {
        self.open = Some(namespace);
        self
    }

    /// What this key opens.
    ///
    /// Cancel safety: dropping the future ends the question.
    ///
    /// # Errors
    /// [`KeyringError`]
    pub async fn check(&self, key: Option<&str>) -> Result<Grant, KeyringError> {
        if let Some(namespace) = &self.open
            && !self.any().await?
        {
            return Ok(Grant { key: None, namespace: namespace.clone(), role: Role::Admin });
        }
        let key = key.ok_or(KeyringError::Missing)?;
        KeyId::of(key).ok_or(KeyringError::Unknown)?;
        let found = self.find(KeyHash::of(key)).await?.ok_or(KeyringError::Unknown)?;
        if found.revoked {
            return Err(KeyringError::Revoked);
        }
        if found.expires_at.is_some_and(|at| at <= self.clock.now()) {
            return Err(KeyringError::Expired);
        }
        Ok(Grant { key: Some(found.id.clone()), namespace: found.namespace.clone(), role: found.role })
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remembered(&self, hash: &KeyHash) -> Option<Option<Arc<StoredKey>>> {
        let memory = self.memory();
        let found = memory.keys.get(hash).filter(|found| found.until > Instant::now());
        found.map(|found| found.key.clone())
    }

    async fn find(&self, hash: KeyHash) -> Result<Option<Arc<StoredKey>>, KeyStoreError> {
        if let Some(found) = self.remembered(&hash) {
            return Ok(found);
        }
        let _permit = self.lookups.acquire().await.map_err(|error| KeyStoreError::Failed(error.to_string()))?;
        // Somebody else may have asked meanwhile.
        if let Some(found) = self.remembered(&hash) {
            return Ok(found);
        }
        // What is revoked while the store is asked counts from here on.
        let asked = Instant::now();
        let store = Arc::clone(&self.store);
        let found = blocking(move || store.find(&hash)).await?.map(Arc::new);
        let until = asked + if found.is_some() { LOOKUP_MEMORY } else { MISS_MEMORY };
        self.memory().remember(hash, Remembered { key: found.clone(), until });
        Ok(found)
    }

    /// Whether there is any key. Once there is one, there always is: none is ever deleted.
    async fn any(&self) -> Result<bool, KeyStoreError> {
        let known = self.memory().any;
        match known {
            Some((true, _)) => return Ok(true),
            Some((false, until)) if until > Instant::now() => return Ok(false),
            _ => {}
        }
        let asked = Instant::now();
        let store = Arc::clone(&self.store);
        let any = blocking(move || store.any()).await?;
        self.memory().any = Some((any, asked + MISS_MEMORY));
        Ok(any)
    }
}

impl Memory {
    fn remember(&mut self, hash: KeyHash, found: Remembered) {
        if self.keys.len() >= REMEMBERED {
            let now = Instant::now();
            self.keys.retain(|_, other| other.until > now);
        }
        if self.keys.len() < REMEMBERED {
            self.keys.insert(hash, found);
        }
    }
}

async fn blocking<T: Send + 'static>(
    ask: impl FnOnce() -> Result<T, KeyStoreError> + Send + 'static,
) -> Result<T, KeyStoreError> {
    let asked = tokio::task::spawn_blocking(ask).await;
    asked.unwrap_or_else(|error| Err(KeyStoreError::Failed(error.to_string())))
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("open", &self.open).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aiki_core::Timestamp;
    use aiki_runtime::VirtualClock;

    use crate::keys::{MemoryKeys, NewKey};

    struct World {
        store: Arc<MemoryKeys>,
        clock: Arc<VirtualClock>,
    }

    impl World {
        fn new() -> Self {
            Self { store: Arc::default(), clock: Arc::new(VirtualClock::default()) }
        }

        fn ring(&self) -> Keyring {
            Keyring::new(self.store.clone(), self.clock.clone())
        }

        fn key(&self, expires_at: Option<Timestamp>) -> NewKey {
            let key = NewKey::random().unwrap();
            self.store.add(&key.stored(Name::new("shop"), Role::Worker, self.clock.now(), expires_at)).unwrap();
            key
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_revoked_key_opens_nothing_after_five_seconds() {
        let world = World::new();
        let (ring, key) = (world.ring(), world.key(None));
        let grant = ring.check(Some(key.text())).await.unwrap();
        assert_eq!((grant.namespace.as_str(), grant.role), ("shop", Role::Worker));
        assert!(world.store.revoke(&KeyId::of(key.text()).unwrap()).unwrap());
        let revoked = Instant::now();
        while ring.check(Some(key.text())).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(revoked.elapsed() <= Duration::from_secs(5), "{:?}", revoked.elapsed());
        assert_eq!(ring.check(Some(key.text())).await, Err(KeyringError::Revoked));
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_expires_at_its_time_although_it_is_remembered() {
        let world = World::new();
        let key = world.key(Some(world.clock.now().after(Duration::from_secs(2))));
        let ring = world.ring();
        assert!(ring.check(Some(key.text())).await.is_ok());
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(ring.check(Some(key.text())).await, Err(KeyringError::Expired));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_key_is_refused_without_asking_the_store() {
        let world = World::new();
        let ring = world.ring();
        assert_eq!(ring.check(None).await, Err(KeyringError::Missing));
        for none in ["", "secret", "aiki_xyz"] {
            assert_eq!(ring.check(Some(none)).await, Err(KeyringError::Unknown), "{none}");
        }
        assert!(ring.memory().keys.is_empty());
        let unknown = NewKey::random().unwrap();
        assert_eq!(ring.check(Some(unknown.text())).await, Err(KeyringError::Unknown));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_needed_no_key_needs_one_from_the_first_one_on() {
        let world = World::new();
        let ring = world.ring().open_until_the_first_key(Name::new("default"));
        let grant = ring.check(None).await.unwrap();
        assert_eq!((grant.namespace.as_str(), grant.role), ("default", Role::Admin));
        let key = world.key(None);
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(ring.check(None).await, Err(KeyringError::Missing));
        assert_eq!(ring.check(Some(key.text())).await.unwrap().namespace.as_str(), "shop");
        assert!(world.store.revoke(&KeyId::of(key.text()).unwrap()).unwrap());
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(ring.check(None).await, Err(KeyringError::Missing), "a revoked key is a key");
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_unknown_keys_fills_no_memory() {
        let ring = World::new().ring();
        let until = Instant::now() + MISS_MEMORY;
        for number in 0..REMEMBERED + 100 {
            ring.memory().remember(KeyHash::of(&number.to_string()), Remembered { key: None, until });
        }
        assert_eq!(ring.memory().keys.len(), REMEMBERED);
    }
}
