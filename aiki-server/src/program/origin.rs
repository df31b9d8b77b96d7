//! Settings as text, by where they were given.

use std::collections::BTreeMap;

use figment::value::{Dict, Map, Value};
use figment::{Error, Metadata, Profile, Provider};

/// Values of one origin, by the name of their setting.
#[derive(Clone, Debug, Default)]
pub(crate) struct Texts {
    origin: &'static str,
    values: BTreeMap<&'static str, String>,
}

impl Texts {
    pub(crate) fn new(origin: &'static str) -> Self {
        Self { origin, values: BTreeMap::new() }
    }

    /// Takes note of a value, if there is one.
    pub(crate) fn set(&mut self, name: &'static str, value: Option<String>) {
        if let Some(value) = value {
            self.values.insert(name, value);
        }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }
}

impl Provider for Texts {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        let dict = self.values.iter().map(|(name, text)| ((*name).to_owned(), Value::from(text.as_str())));
        Ok(Profile::Default.collect(dict.collect()))
    }
}
