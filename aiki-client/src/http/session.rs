//! What was agreed with the server: the dialect and its limits.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use aiki_core::{Name, ServerError};
use aiki_wire::native::Negotiated;

/// A server of the plain contract is asked after this time whether it has learned our procedures.
const ASK_AGAIN: Duration = Duration::from_secs(600);

/// What the server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Our own procedures.
    Native {
        /// How long a long poll may last.
        max_wait: Duration,
    },
    /// The plain contract.
    Plain,
}

#[derive(Debug, Default)]
struct State {
    dialect: Option<(Dialect, Instant)>,
}

/// What was agreed with one server.
#[derive(Debug)]
pub(super) struct Session {
    state: Mutex<State>,
    /// The namespace of the configuration, or the server's word.
    namespace: OnceLock<Name>,
    fallback: Name,
}

impl Session {
    pub(super) fn new(namespace: Option<Name>) -> Self {
        let known = OnceLock::new();
        if let Some(namespace) = namespace {
            // It is empty yet.
            let _ = known.set(namespace);
        }
        Self { state: Mutex::default(), namespace: known, fallback: Name::new("default") }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn namespace(&self) -> &Name {
        self.namespace.get().unwrap_or(&self.fallback)
    }

    /// What was agreed, unless it is time to ask. While something is held under a dialect, it stays.
    pub(super) fn dialect(&self, held: bool) -> Option<Dialect> {
        let (dialect, since) = self.state().dialect?;
        let stale = dialect == Dialect::Plain && !held && since.elapsed() > ASK_AGAIN;
        (!stale).then_some(dialect)
    }

    /// Notes the server's answer.
    pub(super) fn agreed(&self, answer: &Negotiated) -> Result<Dialect, ServerError> {
        let namespace = self.namespace.get_or_init(|| answer.namespace.clone());
        if *namespace != answer.namespace {
            return Err(ServerError::Invalid(format!(
                "the key belongs to the namespace `{}`, the configuration says `{namespace}`: correct `namespace`, or \
                 use a key of it",
                answer.namespace
            )));
        }
        let dialect = Dialect::Native { max_wait: Duration::from_millis(answer.max_wait_ms.max(1)) };
        self.note(dialect);
        Ok(dialect)
    }

    pub(super) fn note(&self, dialect: Dialect) {
        self.state().dialect = Some((dialect, Instant::now()));
    }

    /// The server no longer knows what was agreed.
    pub(super) fn forget(&self) {
        self.state().dialect = None;
    }
}
