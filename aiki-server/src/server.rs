//! A running server.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use aiki_core::{Client, Clock, Name, ServerError};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::announcer::Announcer;
use crate::builder::ServerBuilder;
use crate::health::ServerHealth;
use crate::lane::LaneHandle;
use crate::local_client::LocalClient;
use crate::presence::Presences;
use crate::readers::Readers;
use crate::retention::Retention;
use crate::seekers::Seekers;
use crate::timer::Timer;
use crate::watchers::Watchers;
use crate::workers::Workers;

/// The namespace of [`Server::client`].
pub(crate) const DEFAULT_NAMESPACE: &str = "default";

/// The parts of a server.
pub(crate) struct Inner {
    pub(crate) lane: LaneHandle,
    pub(crate) readers: Readers,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) timer: Arc<Timer>,
    pub(crate) seekers: Arc<Seekers>,
    pub(crate) watchers: Arc<Watchers>,
    pub(crate) workers: Arc<Workers>,
    pub(crate) presences: Arc<Presences>,
    pub(crate) announcer: Option<Arc<Announcer>>,
    pub(crate) payload_limit: usize,
    pub(crate) history_limit: u32,
    pub(crate) retention: Option<Arc<Retention>>,
    pub(crate) draining: watch::Sender<bool>,
    #[cfg(feature = "http")]
    pub(crate) plain_lease: std::time::Duration,
    #[cfg(feature = "http")]
    pub(crate) looks: crate::looks::Looks,
    pub(crate) closed: watch::Sender<bool>,
    pub(crate) daemons: Mutex<Vec<JoinHandle<()>>>,
}

impl Inner {
    /// Resolves when the server is closed.
    pub(crate) async fn closed(&self) {
        // The sender lives in `self`: there is no other way for this to end.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }

    /// Resolves when nobody is to wait any longer: the server is about to stop.
    pub(crate) async fn draining(&self) {
        // As above.
        let _ = self.draining.subscribe().wait_for(|draining| *draining).await;
    }

    /// Whether the server was closed, or is about to stop.
    pub(crate) fn is_ending(&self) -> bool {
        *self.closed.borrow() || *self.draining.borrow()
    }

    /// Stops this task with the server.
    pub(crate) fn keep(&self, daemon: JoinHandle<()>) {
        self.daemons.lock().unwrap_or_else(PoisonError::into_inner).push(daemon);
    }

    fn stop_daemons(&self) -> Vec<JoinHandle<()>> {
        self.closed.send_replace(true);
        let daemons = std::mem::take(&mut *self.daemons.lock().unwrap_or_else(PoisonError::into_inner));
        daemons.iter().for_each(JoinHandle::abort);
        daemons
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop_daemons();
        self.lane.close();
        self.readers.close();
    }
}

/// An orchestrator inside this program. Cloning is cheap. It lives until [`close`](Self::close), or
/// until the last of its clones and clients is gone; dropping that one blocks until what was asked
/// for already is committed.
#[derive(Clone)]
pub struct Server {
    inner: Arc<Inner>,
}

impl Server {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        Self { inner }
    }

    #[cfg(feature = "http")]
    pub(crate) fn inner(&self) -> Arc<Inner> {
        Arc::clone(&self.inner)
    }

    /// Configures a server. Without more ado it keeps its runs in memory.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::new()
    }

    /// A client for the namespace `default`.
    pub fn client(&self) -> Client {
        self.client_for(Name::new(DEFAULT_NAMESPACE))
    }

    /// A client for a namespace. Namespaces need not be created and do not see each other's runs.
    pub fn client_for(&self, namespace: Name) -> Client {
        Client::new(LocalClient::new(Arc::clone(&self.inner), namespace))
    }

    /// A client for the namespace `default` whose workers outlive this server: their claims do not end with
    /// it. For simulations, where processes are not processes.
    #[doc(hidden)]
    pub fn client_of_another_process(&self) -> Client {
        Client::new(LocalClient::for_others(Arc::clone(&self.inner), Name::new(DEFAULT_NAMESPACE)))
    }

    /// Does at once what is due by the server's clock, and returns when it is committed. The server
    /// does it by itself as time goes by; call this after stepping a clock of your own.
    ///
    /// # Errors
    /// [`ServerError::Unavailable`] when the store is out of order or the server was closed.
    pub async fn run_due_timers(&self) -> Result<(), ServerError> {
        self.inner.timer.run_due(&self.inner.lane).await?;
        if let Some(retention) = &self.inner.retention {
            retention.sweep(self.inner.clock.now(), &self.inner.readers, &self.inner.lane).await?;
        }
        Ok(())
    }

    /// Takes back the runs that workers of this process hold, as a start does after the process ended.
    /// For tests that compare stores.
    ///
    /// # Errors
    /// [`ServerError::Unavailable`] when the store is out of order or the server was closed.
    #[doc(hidden)]
    pub async fn take_back_orphans(&self) -> Result<usize, ServerError> {
        crate::orphans::take_back(&self.inner.readers, &self.inner.lane).await
    }

    /// How the server is doing. Takes at most two seconds.
    ///
    /// Cancel safety: dropping the future ends the questions.
    pub async fn health(&self) -> ServerHealth {
        self.inner.health().await
    }

    /// Prepares for the end: who waits for the end of a run or for news is answered at once, with what
    /// there is, and who asks to wait from now on at once or very soon. Everything else goes on. Twice is harmless.
    pub fn drain(&self) {
        self.inner.draining.send_replace(true);
    }

    /// Stops the timers and announcements, commits what was asked for already, and lets go of the
    /// store. Later requests answer [`ServerError::Unavailable`]. Closing twice is harmless.
    ///
    /// Cancel safety: when the future is dropped, closing goes on in the background.
    pub async fn close(&self) {
        let daemons = self.inner.stop_daemons();
        let inner = Arc::clone(&self.inner);
        let LaneHandle::Thread(_) = &self.inner.lane else {
            // Nobody was at work meanwhile, and nothing waits.
            inner.lane.close();
            inner.readers.close();
            return join(daemons).await;
        };
        let closing = tokio::spawn(async move {
            // First those who would only learn that nobody answers them any more.
            join(daemons).await;
            let close = move || {
                inner.lane.close();
                inner.readers.close();
            };
            tokio::task::spawn_blocking(close).await
        });
        if let Err(error) | Ok(Err(error)) = closing.await {
            tracing::error!(%error, "the server could not be closed");
        }
    }
}

async fn join(daemons: Vec<JoinHandle<()>>) {
    for daemon in daemons {
        // Aborted: the error says just that.
        let _ = daemon.await;
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
    }
}
