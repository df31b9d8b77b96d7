//! How the API is served.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aiki_wire::depth::DEFAULT_DEPTH_LIMIT;

use super::caller::{Authorize, Everyone};

/// How the API is served. The defaults suit a server in a trusted network.
#[derive(Clone)]
pub struct RouterOptions {
    pub(super) authorize: Arc<dyn Authorize>,
    pub(super) body_limit: usize,
    pub(super) bodies_limit: usize,
    pub(super) body_timeout: Duration,
    pub(super) depth_limit: usize,
    pub(super) origins: Vec<String>,
    pub(super) native: bool,
}

impl Default for RouterOptions {
    fn default() -> Self {
        Self {
            authorize: Arc::new(Everyone::default()),
            body_limit: 4_000_000,
            bodies_limit: 256_000_000,
            body_timeout: Duration::from_secs(30),
            depth_limit: DEFAULT_DEPTH_LIMIT,
            origins: vec!["http://localhost:9851".to_owned()],
            native: true,
        }
    }
}

impl RouterOptions {
    /// Who is let in, as whom. The default is [`Everyone`], in the namespace `default`.
    #[must_use]
    pub fn authorize(mut self, authorize: impl Authorize) -> Self {
        self.authorize = Arc::new(authorize);
        self
    }

    /// The largest body of a request in bytes; the default is 4 MB. A larger one is answered with status 413.
    #[must_use]
    pub fn body_limit(mut self, bytes: usize) -> Self {
        self.body_limit = bytes;
        self
    }

    /// The size of all bodies that are held at once in bytes; the default is 256 MB. A request beyond is answered
    /// with status 503 and may be repeated.
    #[must_use]
    pub fn bodies_limit(mut self, bytes: usize) -> Self {
        self.bodies_limit = bytes;
        self
    }

    /// A body has to arrive within this time; the default is 30 s. Otherwise the answer is status 408.
    #[must_use]
    pub fn body_timeout(mut self, timeout: Duration) -> Self {
        self.body_timeout = timeout;
        self
    }

    /// How deep objects and arrays of a body may be nested, the envelope included; the default is 100. More than
    /// about 120 is not readable for peers that use serde.
    #[must_use]
    pub fn depth_limit(mut self, levels: usize) -> Self {
        self.depth_limit = levels;
        self
    }

    /// Whether the procedures of this implementation's own are there; without them the client and workers of this
    /// implementation speak the plain contract. The default is yes.
    #[must_use]
    pub fn native(mut self, there: bool) -> Self {
        self.native = there;
        self
    }

    /// The origins whose pages may call from a browser, such as `https://ops.example.com`. The default is
    /// `http://localhost:9851`, the dashboard of a developer. With none at all, nothing about origins is
    /// answered, and an app around may do that.
    #[must_use]
    pub fn origins<T: Into<String>>(mut self, origins: impl IntoIterator<Item = T>) -> Self {
        self.origins = origins.into_iter().map(Into::into).collect();
        self
    }
}

impl fmt::Debug for RouterOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouterOptions")
            .field("body_limit", &self.body_limit)
            .field("bodies_limit", &self.bodies_limit)
            .field("body_timeout", &self.body_timeout)
            .field("depth_limit", &self.depth_limit)
            .field("origins", &self.origins)
            .finish_non_exhaustive()
    }
}
