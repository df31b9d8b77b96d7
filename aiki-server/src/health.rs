//! How the server is doing.

use std::time::Duration;

use crate::operation::Due;
use crate::server::Inner;

/// An answer that takes longer than this is none.
const PATIENCE: Duration = Duration::from_secs(2);

/// How a server is doing, by proofs: a question that was answered just now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerHealth {
    /// Whether the store answers, to readers and to the commit lane; or why it does not.
    pub store: Result<(), String>,
    /// Whether the last announcement reached the queue; or why it did not. Fine where there is none.
    pub publisher: Result<(), String>,
    /// Whether the server is about to stop.
    pub draining: bool,
}

impl ServerHealth {
    /// Whether requests are served as they should be.
    pub fn is_ready(&self) -> bool {
        self.store.is_ok() && self.publisher.is_ok() && !self.draining
    }
}

impl Inner {
    /// Asks the parts. Takes at most two seconds. Changes nothing.
    pub(crate) async fn health(&self) -> ServerHealth {
        let asked = async {
            self.readers.read(|store| store.by_reference(&[])).await.map(drop)?;
            // Nothing is due within a limit of none, but the lane has asked the store.
            self.lane.call(Due { limit: 0 }).await.map(drop)
        };
        let store = match tokio::time::timeout(PATIENCE, asked).await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err(format!("the store did not answer within {PATIENCE:?}")),
        };
        let trouble = self.announcer.as_ref().and_then(|announcer| announcer.trouble());
        ServerHealth { store, publisher: trouble.map_or(Ok(()), Err), draining: *self.draining.borrow() }
    }
}
