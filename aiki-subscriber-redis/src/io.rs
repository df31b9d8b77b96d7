//! A thread of its own for connections: a handler that blocks the program's runtime does not stop them.

use std::future::Future;

use aiki_core::SubscriberError;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A thread with a runtime. It ends, with everything that was spawned on it, when this is dropped.
#[derive(Debug)]
pub(crate) struct IoThread {
    handle: Handle,
    /// Dropping it ends the thread.
    _stop: oneshot::Sender<()>,
}

impl IoThread {
    pub(crate) fn start(name: &str) -> Result<Self, SubscriberError> {
        let failed = |error: std::io::Error| SubscriberError::Unavailable(format!("no thread for Redis: {error}"));
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let work = move || {
            // An error is what the drop of the sender looks like.
            let _ = runtime.block_on(stopped);
        };
        std::thread::Builder::new().name(name.into()).spawn(work).map_err(failed)?;
        Ok(Self { handle, _stop: stop })
    }

    pub(crate) fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.handle.spawn(task)
    }

    /// Does this here and now, with what it spawns on the thread.
    pub(crate) fn enter<T>(&self, work: impl FnOnce() -> T) -> T {
        let _entered = self.handle.enter();
        work()
    }

    /// Does this on the thread. When the returned future is dropped, the work goes on.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, SubscriberError>> + Send + 'static,
    ) -> Result<T, SubscriberError> {
        match self.spawn(work).await {
            Ok(answer) => answer,
            Err(error) => Err(SubscriberError::Unavailable(format!("the work for Redis ended: {error}"))),
        }
    }
}
