//! Keeping claims and deliveries alive while handlers run, on a thread that no handler can block.

mod deliveries;
mod leases;
mod news;
mod watchdog;

pub(crate) use leases::fence;

use std::sync::Arc;
use std::thread;

use aiki_core::CancellationToken;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::trace;
use crate::worker::Shared;

/// The heartbeats of one worker. They end when [`stop`](Self::stop) is called or this is dropped.
pub(crate) struct Heartbeat {
    stop: CancellationToken,
    ended: Ended,
}

enum Ended {
    Thread(oneshot::Receiver<()>),
    Task(JoinHandle<()>),
}

impl Heartbeat {
    /// Begins, on a thread of its own unless told otherwise.
    pub(crate) fn start(shared: &Arc<Shared>) -> Self {
        let stop = CancellationToken::new();
        let ended = if shared.settings.heartbeat_on_runtime { None } else { on_thread(shared, &stop) };
        let ended = ended.unwrap_or_else(|| Ended::Task(tokio::spawn(beat(shared.clone(), stop.clone()))));
        Self { stop, ended }
    }

    /// Ends the heartbeats and waits until they have ended.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        // However it ended, it has.
        match &mut self.ended {
            Ended::Thread(ended) => drop(ended.await),
            Ended::Task(task) => drop(task.await),
        }
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn on_thread(shared: &Arc<Shared>, stop: &CancellationToken) -> Option<Ended> {
    let failed = |error: std::io::Error| trace::heartbeat_on_runtime(shared.name.as_str(), &error);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed).ok()?;
    let (end, ended) = oneshot::channel();
    let (own, stop) = (shared.clone(), stop.clone());
    let work = move || {
        runtime.block_on(beat(own, stop));
        drop(end);
    };
    thread::Builder::new().name("aiki-heartbeat".into()).spawn(work).map_err(failed).ok()?;
    Some(Ended::Thread(ended))
}

async fn beat(shared: Arc<Shared>, stop: CancellationToken) {
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = async {
            if shared.settings.quiet {
                while_busy(&shared).await;
            } else {
                keep(&shared).await;
            }
        } => {}
    }
}

async fn keep(shared: &Shared) {
    tokio::join!(keep_claims(shared), watchdog::watch(shared));
}

async fn keep_claims(shared: &Shared) {
    tokio::join!(leases::keep(shared), deliveries::keep(shared), news::keep(shared));
}

/// Keeps up nothing while nothing is held. The first heartbeat after that is soon enough: the claim is new.
async fn while_busy(shared: &Shared) {
    let mut busy = shared.active.busy();
    while busy.wait_for(|busy| *busy).await.is_ok() {
        tokio::select! {
            biased;
            _ = busy.wait_for(|busy| !*busy) => {}
            () = keep_claims(shared) => {}
        }
    }
}
