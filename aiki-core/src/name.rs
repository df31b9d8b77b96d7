//! Names that users give to workflows, versions, tasks and sleeps.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest name, in characters.
pub const MAX_NAME_LEN: usize = 128;

/// A name that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The name has no characters.
    #[error("the name is empty: give it 1 to {MAX_NAME_LEN} characters")]
    Empty,
    /// The name is longer than [`MAX_NAME_LEN`].
    #[error("the name has {0} characters: shorten it to {MAX_NAME_LEN}")]
    TooLong(usize),
    /// The name has a character outside of `A-Z a-z 0-9 . _ / -`.
    #[error("the name `{name}` has the character {found:?}: use only letters, digits and . _ / -")]
    Character {
        /// The name as given.
        name: String,
        /// The first character that is not allowed.
        found: char,
    },
}

/// Checks a name that this SDK makes: 1 to 128 characters out of `A-Z a-z 0-9 . _ / -`.
/// They are safe in stream keys, logs, metric labels and URLs.
pub fn check_name(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '/' | '-');
    if let Some(found) = name.chars().find(|c| !allowed(*c)) {
        return Err(NameError::Character { name: name.chars().take(MAX_NAME_LEN).collect(), found });
    }
    if name.len() > MAX_NAME_LEN {
        return Err(NameError::TooLong(name.len()));
    }
    Ok(())
}

/// A short text that is cloned often: a name or a version.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Name(Arc<str>);

impl Name {
    /// Any text, unchecked: names that come from a peer follow the peer's rules.
    pub fn new(text: impl AsRef<str>) -> Self {
        Self(Arc::from(text.as_ref()))
    }

    /// A name of this SDK's own making.
    ///
    /// # Errors
    /// [`NameError`] says which rule of [`check_name`] is broken.
    pub fn checked(text: impl AsRef<str>) -> Result<Self, NameError> {
        check_name(text.as_ref())?;
        Ok(Self::new(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Name {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

/// Whether a workflow is the user's or one that Aiki itself runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Defined by the user.
    #[default]
    User,
    /// Defined by Aiki.
    System,
}

impl Source {
    /// `user` or `system`, as on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Source::User => "user",
            Source::System => "system",
        }
    }
}

/// Names the code of a run: a workflow and one version of it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkflowKey {
    /// Whose workflow it is.
    #[serde(default)]
    pub source: Source,
    /// The workflow's name.
    pub name: Name,
    /// The version's name, such as `1.0.0`.
    #[serde(rename = "versionId")]
    pub version: Name,
}

impl WorkflowKey {
    /// The key of a user's workflow.
    pub fn user(name: impl Into<Name>, version: impl Into<Name>) -> Self {
        Self { source: Source::User, name: name.into(), version: version.into() }
    }
}

impl fmt::Display for WorkflowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.source == Source::System {
            f.write_str("system:")?;
        }
        write!(f, "{}@{}", self.name, self.version)
    }
}

impl fmt::Debug for WorkflowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WorkflowKey({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_names_are_refused_with_the_reason() {
        assert_eq!(check_name(""), Err(NameError::Empty));
        assert_eq!(check_name(&"x".repeat(129)), Err(NameError::TooLong(129)));
        assert!(matches!(check_name("a b"), Err(NameError::Character { found: ' ', .. })));
        assert!(check_name("orders/charge-card_2.0").is_ok());
    }
}
