//! Limits of a worker on the tasks that it runs.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;

/// A task's turn. Dropping it lets the next one in.
pub type TaskTurn = Box<dyn Any + Send>;

/// Says when a task may run on this worker. Core asks it before every attempt; the time limits of the
/// attempt begin when its turn has come.
pub trait TaskGate: Send + Sync + 'static {
    /// Waits for the turn of a task of this name. Cancel-safe: a future that is dropped takes no turn.
    fn enter(&self, task: &str) -> Pin<Box<dyn Future<Output = TaskTurn> + Send>>;
}
