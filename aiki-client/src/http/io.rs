//! The thread on which all requests run.
//!
//! A handler that blocks its runtime must not keep the worker's heartbeats from the server; connections belong
//! to the runtime that made them, so they all belong to this one.

use std::sync::{Mutex, PoisonError};

use aiki_core::ServerError;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{oneshot, watch};
use tokio::task::AbortHandle;

pub(super) struct Io {
    handle: Handle,
    /// Dropped to end the thread.
    stop: Mutex<Option<oneshot::Sender<()>>>,
    ended: watch::Receiver<bool>,
}

/// What is asked for on behalf of somebody who may go away.
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(super) fn closed() -> ServerError {
    ServerError::Unavailable("the client was closed".into())
}

impl Io {
    pub(super) fn start() -> std::io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let (end, ended) = watch::channel(false);
        std::thread::Builder::new().name("aiki-http".into()).spawn(move || {
            // Nothing is ever sent: it ends when the sender is gone.
            let _ = runtime.block_on(stopped);
            runtime.shutdown_background();
            end.send_replace(true);
        })?;
        Ok(Self { handle, stop: Mutex::new(Some(stop)), ended })
    }

    /// Runs something to its end, whoever waits for it.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        drop(self.handle.spawn(work));
    }

    /// Runs something for the caller. When the caller goes away, it is given up.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, ServerError>> + Send + 'static,
    ) -> Result<T, ServerError> {
        let task = self.handle.spawn(work);
        let _guard = AbortOnDrop(task.abort_handle());
        task.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Ends the thread; what is under way is given up.
    pub(super) async fn close(&self) {
        drop(self.stop.lock().unwrap_or_else(PoisonError::into_inner).take());
        let mut ended = self.ended.clone();
        // An error says that the thread is gone.
        let _ = ended.wait_for(|ended| *ended).await;
    }
}
