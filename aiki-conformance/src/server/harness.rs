//! What a suite needs of the server under test.

use std::time::Duration;

use aiki_core::{Client, Name, Timestamp};
use async_trait::async_trait;

use super::Recorder;

/// A server under test, fresh and empty, with a clock that the suite steps.
#[async_trait]
pub trait ServerHarness: Send + Sync {
    /// A client for a namespace.
    fn client_for(&self, namespace: Name) -> Client;

    /// A client for the namespace `default`.
    fn client(&self) -> Client {
        self.client_for(Name::new("default"))
    }

    /// The time by the server's clock.
    fn now(&self) -> Timestamp;

    /// Lets time pass for the server; returns when it has done what became due.
    async fn advance(&self, by: Duration);

    /// The publisher that the server was given.
    fn recorder(&self) -> &Recorder;

    /// The server's limit of a payload, in bytes.
    fn payload_limit(&self) -> usize;

    /// The server's limit of a history, in entries: between 1,000 and 5,000 for this suite.
    fn history_limit(&self) -> u32;

    /// Whether workers live in the server's process and end with it.
    fn workers_end_with_server(&self) -> bool {
        true
    }

    /// Ends the server and starts another over the same store; clients made before are void. A store
    /// that does not outlive its server takes back the runs of the workers of its process, as a start
    /// does.
    async fn restart(&self);
}
