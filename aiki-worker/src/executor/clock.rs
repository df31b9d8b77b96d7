//! The time of one pass.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aiki_core::{Clock, Timestamp};

/// The server's time as far as it is known: due times are by the server's clock, and the worker's may differ. It
/// stands still once its pass is cut short: no step becomes due any more, so no attempt begins while bodies clean up.
pub(super) struct PassClock {
    clock: Arc<dyn Clock>,
    skew: Skew,
    stopped: OnceLock<Timestamp>,
}

/// How the worker's clock differs from the server's, by the claim. What the answer took on its way counts as being
/// ahead: the pass is at most that much behind the server, and what was due at the claim is due for it.
#[derive(Clone, Copy)]
enum Skew {
    Ahead(Duration),
    Behind(Duration),
}

impl PassClock {
    /// `granted_at`: the server's time at the claim, which was answered just now.
    pub(super) fn new(clock: Arc<dyn Clock>, granted_at: Option<Timestamp>) -> Self {
        let now = clock.now();
        let skew = match granted_at {
            Some(servers) if servers > now => Skew::Behind(servers.since(now)),
            Some(servers) => Skew::Ahead(now.since(servers)),
            None => Skew::Ahead(Duration::ZERO),
        };
        Self { clock, skew, stopped: OnceLock::new() }
    }

    pub(super) fn stop(&self) {
        self.stopped.get_or_init(|| self.servers_time());
    }

    fn servers_time(&self) -> Timestamp {
        let now = self.clock.now();
        match self.skew {
            Skew::Behind(by) => now.after(by),
            Skew::Ahead(by) => Timestamp::from_millis(now.as_millis().saturating_sub(by.as_millis() as u64)),
        }
    }
}

impl Clock for PassClock {
    fn now(&self) -> Timestamp {
        self.stopped.get().copied().unwrap_or_else(|| self.servers_time())
    }
}
