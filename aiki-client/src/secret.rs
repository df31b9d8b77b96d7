//! Text that must not show.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// A password or key. It has no `Display` and no `Serialize`, and its `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for whoever has to send it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    /// Refuses what is not text, without repeating it: a password of digits may stand there without quotes.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Secret;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a secret, as text in quotes")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Secret, E> {
                Ok(Secret::new(text))
            }
            fn visit_string<E: Error>(self, text: String) -> Result<Secret, E> {
                Ok(Secret(text))
            }
            fn visit_i64<E: Error>(self, _: i64) -> Result<Secret, E> {
                Err(unquoted())
            }
            fn visit_u64<E: Error>(self, _: u64) -> Result<Secret, E> {
                Err(unquoted())
            }
            fn visit_f64<E: Error>(self, _: f64) -> Result<Secret, E> {
                Err(unquoted())
            }
        }

        fn unquoted<E: Error>() -> E {
            E::custom("a secret is a number here: put it in quotes")
        }

        // Told that text is wanted, a format would itself complain, and repeat what it found.
        deserializer.deserialize_any(Text)
    }
}
