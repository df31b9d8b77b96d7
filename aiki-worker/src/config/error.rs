//! Why a configuration is refused.

use std::path::PathBuf;

/// A worker's configuration cannot be used.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A value is out of range.
    #[error("`{key}` {problem}: {remedy}")]
    Value {
        /// The key, with its section: `workflowRun.heartbeatIntervalMs`.
        key: &'static str,
        /// What is wrong.
        problem: String,
        /// What to do.
        remedy: String,
    },
    /// The text is not JSON or TOML of the documented shape.
    #[error("the worker's configuration cannot be read: {0}")]
    Format(String),
    /// The file cannot be used.
    #[error("the worker's configuration in {}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

aiki_core::debug_as_display!(ConfigError);

impl ConfigError {
    pub(super) fn value(key: &'static str, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        ConfigError::Value { key, problem: problem.into(), remedy: remedy.into() }
    }

    /// What serde said, with the key that it said it about.
    pub(super) fn format(key: &serde_path_to_error::Path, error: &dyn std::fmt::Display) -> Self {
        let key = key.to_string();
        // At the top there is no key: serde then names it itself.
        match key == "." {
            true => ConfigError::Format(error.to_string()),
            false => ConfigError::Format(format!("`{key}`: {error}; give it a value of that type")),
        }
    }

    /// The text inside of an error that names the file.
    pub(super) fn in_file(self) -> String {
        match self {
            ConfigError::Format(reason) => reason,
            other => other.to_string(),
        }
    }

    /// The key that is wrong, when it is one.
    pub fn key(&self) -> Option<&'static str> {
        match self {
            ConfigError::Value { key, .. } => Some(key),
            _ => None,
        }
    }

    /// The configuration names a subscriber, and nobody made one of it.
    pub(crate) fn unresolved_subscriber(kind: &str) -> Self {
        Self::value(
            "subscriber.type",
            format!("is `{kind}`, which the worker's builder cannot make itself"),
            "pass the subscriber with `.subscriber(..)`, or leave the section out to claim straight from the server",
        )
    }
}
