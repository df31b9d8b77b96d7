//! The text of a key, its id and its hash.

use std::fmt;

use aiki_core::{Name, Timestamp};
use sha2::{Digest, Sha256};

use super::StoredKey;
use crate::http::Role;

const PREFIX: &str = "aiki_";
/// Hex digits of the id.
const ID_LEN: usize = 8;
/// Bytes of the secret.
const SECRET_LEN: usize = 32;
/// A longer text is no key. Those of other implementations have 57 characters, ours 78.
const MAX_LEN: usize = 256;

/// The public part of a key: 8 lowercase hex digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(String);

/// The SHA-256 of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyHash([u8; 32]);

/// A key that was just made: the only time that its text is known.
pub struct NewKey {
    id: KeyId,
    text: String,
}

/// A text that is not the id of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key's id is the 8 hex digits behind `aiki_`, as `aiki-server keys list` shows them")]
pub struct KeyFormatError;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl KeyId {
    /// Reads an id.
    ///
    /// # Errors
    /// [`KeyFormatError`]
    pub fn parse(text: &str) -> Result<Self, KeyFormatError> {
        if text.len() == ID_LEN && is_hex(text) { Ok(Self(text.to_owned())) } else { Err(KeyFormatError) }
    }

    /// The id of a whole key; `None` when the text has not the form of a key.
    pub fn of(key: &str) -> Option<Self> {
        let (id, secret) = key.strip_prefix(PREFIX)?.split_once('_')?;
        let fits = !secret.is_empty() && key.len() <= MAX_LEN;
        Self::parse(id).ok().filter(|_| fits)
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl KeyHash {
    /// The hash of a whole key.
    pub fn of(key: &str) -> Self {
        Self(Sha256::digest(key.as_bytes()).into())
    }

    /// Reads 64 lowercase hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 64 || !is_hex(text) {
            return None;
        }
        let mut bytes = [0; 32];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl NewKey {
    /// A new key.
    ///
    /// # Errors
    /// When the operating system gives no randomness. There is no other source that would do.
    pub fn random() -> Result<Self, std::io::Error> {
        let mut bytes = [0; ID_LEN / 2 + SECRET_LEN];
        getrandom::fill(&mut bytes).map_err(|error| std::io::Error::other(error.to_string()))?;
        let (id, secret) = bytes.split_at(ID_LEN / 2);
        let id = KeyId(hex(id));
        let text = format!("{PREFIX}{id}_{}", hex(secret));
        Ok(Self { id, text })
    }

    /// The key, secret included.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What is stored of it.
    pub fn stored(
        &self,
        namespace: Name,
        role: Role,
        created_at: Timestamp,
        expires_at: Option<Timestamp>,
    ) -> StoredKey {
        let (id, hash) = (self.id.clone(), KeyHash::of(&self.text));
        StoredKey { id, hash, namespace, role, revoked: false, created_at, expires_at }
    }
}

impl fmt::Debug for NewKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewKey").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_tells_its_id_and_nothing_else() {
        let key = NewKey::random().unwrap();
        let id = KeyId::of(key.text()).unwrap();
        assert_eq!((key.text().len(), &id), (78, &key.id));
        let secret = key.text().rsplit_once('_').unwrap().1;
        assert!(!format!("{key:?}").contains(secret));
        let stored = key.stored(Name::new("n"), Role::Client, Timestamp::EPOCH, None);
        assert!(!format!("{stored:?}").contains(secret));
        assert_ne!(NewKey::random().unwrap().text(), key.text());
    }

    #[test]
    fn keys_of_other_implementations_are_understood() {
        let key = "aiki_0a1b2c3d_mJ7-x_Qk2bW0n3Zr8tY5uVpLhGfDsAqE1oI4cXjNyMw";
        assert_eq!(KeyId::of(key).unwrap().as_str(), "0a1b2c3d");
        for none in ["", "aiki_", "aiki_0a1b2c3d", "aiki_0a1b2c3d_", "aiki_0A1B2C3D_x", "aiki_0a1b2c3_x", "oops"] {
            assert_eq!(KeyId::of(none), None, "{none}");
        }
        assert_eq!(KeyId::of(&format!("aiki_0a1b2c3d_{}", "x".repeat(256))), None);
    }

    #[test]
    fn the_hash_is_lowercase_hex_of_the_whole_key() {
        let hash = KeyHash::of("abc").to_string();
        assert_eq!(hash, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(KeyHash::parse(&hash), Some(KeyHash::of("abc")));
        assert_eq!(KeyHash::parse(&hash.to_uppercase()), None);
        assert_eq!(KeyHash::parse(&hash[1..]), None);
    }
}
