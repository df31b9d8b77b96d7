//! Who calls, and what that entitles to.

use aiki_core::Name;
use async_trait::async_trait;
use axum::http::HeaderMap;

/// What a caller may do. Each role may do what the ones before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Starts runs, reads them, sends events, cancels, manages schedules.
    Client,
    /// Executes runs.
    Worker,
    /// Operates: sets results of tasks, reads metrics.
    Admin,
}

impl Role {
    /// The role's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Client => "client",
            Role::Worker => "worker",
            Role::Admin => "admin",
        }
    }

    /// The role with this name.
    pub fn parse(text: &str) -> Option<Self> {
        [Role::Client, Role::Worker, Role::Admin].into_iter().find(|role| role.as_str() == text)
    }
}

/// A caller that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The namespace that it sees.
    pub namespace: Name,
    /// What it may do there.
    pub role: Role,
}

/// Why a caller is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorizeError {
    /// It is not known. The text is shown to it.
    #[error("{0}")]
    Refused(String),
    /// Whether it is known could not be found out. The text is logged and not shown.
    #[error("{0}")]
    Failed(String),
    /// What knows the callers is away: asking again later helps. The text is logged and not shown.
    #[error("{0}")]
    Unavailable(String),
}

/// Tells who calls.
#[async_trait]
pub trait Authorize: Send + Sync + 'static {
    /// Judges a request by its headers. Called for every request below `/api`, before anything else.
    ///
    /// # Errors
    /// [`AuthorizeError`]: the request is answered with status 401 or 500.
    async fn authorize(&self, headers: &HeaderMap) -> Result<Caller, AuthorizeError>;
}

#[async_trait]
impl<A: Authorize + ?Sized> Authorize for std::sync::Arc<A> {
    async fn authorize(&self, headers: &HeaderMap) -> Result<Caller, AuthorizeError> {
        (**self).authorize(headers).await
    }
}

/// Lets everyone in as [`Role::Admin`] of one namespace.
#[derive(Clone, Debug)]
pub struct Everyone {
    namespace: Name,
}

impl Everyone {
    /// Everyone sees this namespace.
    pub fn of(namespace: impl Into<Name>) -> Self {
        Self { namespace: namespace.into() }
    }
}

impl Default for Everyone {
    fn default() -> Self {
        Self::of(crate::server::DEFAULT_NAMESPACE)
    }
}

#[async_trait]
impl Authorize for Everyone {
    async fn authorize(&self, _: &HeaderMap) -> Result<Caller, AuthorizeError> {
        Ok(Caller { namespace: self.namespace.clone(), role: Role::Admin })
    }
}
