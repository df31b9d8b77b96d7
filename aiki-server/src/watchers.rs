//! Those who wait for runs to end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aiki_core::run::RunHead;
use aiki_core::server_client::RunView;
use aiki_core::{RunId, ServerError};
use tokio::sync::oneshot;

/// At most so many wait at the same time.
const LIMIT: usize = 100_000;

#[derive(Debug, Default)]
struct Waiting {
    by_run: HashMap<RunId, Vec<(u64, oneshot::Sender<RunView>)>>,
    count: usize,
    next: u64,
}

/// All who wait, by run.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    waiting: Mutex<Waiting>,
}

/// One who waits. Dropping it ends the wait.
pub(crate) struct Watch {
    watchers: Arc<Watchers>,
    run: RunId,
    number: u64,
    ended: oneshot::Receiver<RunView>,
}

impl Watchers {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a wait. Look at the run's state after this, never before: then no end can slip through.
    pub(crate) fn watch(self: &Arc<Self>, run: RunId) -> Result<Watch, ServerError> {
        let mut waiting = self.waiting();
        if waiting.count >= LIMIT {
            return Err(ServerError::Unavailable(format!("more than {LIMIT} callers wait for runs to end")));
        }
        let (sender, ended) = oneshot::channel();
        let number = waiting.next;
        waiting.next += 1;
        waiting.count += 1;
        waiting.by_run.entry(run).or_default().push((number, sender));
        Ok(Watch { watchers: Arc::clone(self), run, number, ended })
    }

    /// Whether somebody waits for a run.
    pub(crate) fn is_watched(&self, run: RunId) -> bool {
        self.waiting().by_run.contains_key(&run)
    }

    /// The runs that somebody waits for.
    pub(crate) fn watched(&self) -> Vec<RunId> {
        self.waiting().by_run.keys().copied().collect()
    }

    /// A run has ended.
    pub(crate) fn ended(&self, head: &RunHead) {
        let mut waiting = self.waiting();
        let Some(senders) = waiting.by_run.remove(&head.id) else { return };
        waiting.count -= senders.len();
        drop(waiting);
        for (_, sender) in senders {
            // Whoever waited may have gone.
            let _ = sender.send(RunView { revision: head.revision, state: head.state.clone(), unserved: false });
        }
    }
}

impl Watch {
    /// Waits for the end. `None` never comes while the server lives. Cancel-safe.
    pub(crate) async fn ended(&mut self) -> Option<RunView> {
        (&mut self.ended).await.ok()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut waiting = self.watchers.waiting();
        let Some(senders) = waiting.by_run.get_mut(&self.run) else { return };
        let before = senders.len();
        senders.retain(|(number, _)| *number != self.number);
        let gone = before - senders.len();
        if senders.is_empty() {
            waiting.by_run.remove(&self.run);
        }
        waiting.count -= gone;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn those_who_gave_up_leave_nothing_behind() {
        let watchers = Arc::new(Watchers::default());
        let run = RunId::from_bits(1 << 24);
        let (first, second) = (watchers.watch(run).unwrap(), watchers.watch(run).unwrap());
        drop(first);
        assert_eq!(watchers.waiting().count, 1);
        drop(second);
        assert_eq!(watchers.waiting().count, 0);
        assert!(watchers.waiting().by_run.is_empty());
    }
}
