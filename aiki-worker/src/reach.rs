//! Whether somebody answers, and telling when that changes.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aiki_core::{Name, ServerError};
use aiki_runtime::Outage;
use tokio::time::Instant;

use crate::trace;

/// Who may be away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    Server,
    Subscriber,
}

/// How one of those that a worker talks to is reached. All parts of the worker tell what they meet; it is logged once at
/// the beginning, now and then while it lasts, and at the end.
#[derive(Debug)]
pub(crate) struct Reach {
    worker: Name,
    whom: Whom,
    outage: Mutex<Outage>,
}

impl Reach {
    pub(crate) fn new(worker: &Name, whom: Whom) -> Self {
        Self { worker: worker.clone(), whom, outage: Mutex::default() }
    }

    /// A call failed, and is tried again.
    pub(crate) fn failed(&self, error: &dyn Display) {
        if let Some(lasted) = self.ask(Outage::failed) {
            trace::away(self.worker.as_str(), self.whom, error, lasted);
        }
    }

    /// The server refused a call, or did not answer it.
    pub(crate) fn refused(&self, error: &ServerError) {
        match error {
            // What is unavailable is said once.
            ServerError::Unavailable(reason) => self.failed(reason),
            error => self.failed(error),
        }
    }

    /// A call was answered.
    pub(crate) fn answered(&self) {
        if let Some(lasted) = self.ask(Outage::answered) {
            trace::back(self.worker.as_str(), self.whom, lasted);
        }
    }

    fn ask(&self, what: impl FnOnce(&mut Outage, std::time::Instant) -> Option<Duration>) -> Option<Duration> {
        let now = Instant::now().into_std();
        what(&mut self.outage.lock().unwrap_or_else(PoisonError::into_inner), now)
    }
}
