//! Other servers on the same store: hears what they committed, and shares what is known of workers.

use std::sync::Arc;
use std::time::Duration;

use aiki_core::{Clock, RunId};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::doubt::Doubt;
use crate::notice::{self, Notice};
use crate::presence::{Presences, Question};
use crate::readers::Readers;
use crate::storage::StorageError;
use crate::storage::postgres::{PeerLink, PeerSession};
use crate::timer::Timer;
use crate::watchers::Watchers;
use crate::workers::Workers;

/// How often servers tell each other of workers.
const EXCHANGE: Duration = Duration::from_secs(2);
/// Exchanges between two removals of what nobody needs any more: an hour.
const TIDY_EVERY: u32 = 1_800;
/// Pause before a lost connection is made again; doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Runs that are looked up at a time.
const LOOK_UP: usize = 500;
/// Claims of a namespace that are looked up after the connection was lost.
const HOLDERS: usize = 10_000;

/// The parts of this server that others' commits matter to.
pub(crate) struct Peers {
    pub(crate) id: u64,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) readers: Readers,
    pub(crate) watchers: Arc<Watchers>,
    pub(crate) workers: Arc<Workers>,
    pub(crate) presences: Arc<Presences>,
    /// Which workers the others are to be asked for.
    pub(crate) questions: mpsc::Receiver<Question>,
    pub(crate) timer: Arc<Timer>,
    pub(crate) doubt: Arc<Doubt>,
}

impl Peers {
    /// Runs for as long as the server does.
    pub(crate) async fn run(mut self, link: PeerLink, first: Option<PeerSession>) {
        let (mut pause, mut session) = (FIRST_PAUSE, first);
        loop {
            let connected = match session.take() {
                Some(session) => Ok(session),
                None => link.connect().await,
            };
            let error = match connected {
                Ok(connected) => {
                    pause = FIRST_PAUSE;
                    self.serve(connected).await
                }
                Err(error) => error,
            };
            tracing::warn!(%error, ?pause, "nothing is heard from other servers, trying again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Listens until the connection is lost.
    async fn serve(&mut self, mut session: PeerSession) -> StorageError {
        // What was said before is over.
        if let Err(error) = self.look_again().await {
            return error;
        }
        let mut exchange = tokio::time::interval(EXCHANGE);
        exchange.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut exchanges = 0_u32;
        loop {
            let done = tokio::select! {
                notice = session.notice() => match notice {
                    Some(text) => self.hear(&session, notice::read(&text)).await,
                    None => return StorageError::Unreachable("the connection was lost".into()),
                },
                Some((worker, sent)) = self.questions.recv() => {
                    let said = session.say(&notice::seek(self.id, worker)).await;
                    if said.is_ok() {
                        // Whoever asked may have gone.
                        let _ = sent.send(());
                    }
                    said
                }
                // What follows from a commit was not done, as nobody knew whether it took effect.
                () = self.doubt.arose() => self.look_again().await,
                _ = exchange.tick() => {
                    exchanges = exchanges.wrapping_add(1);
                    self.exchange(&session, exchanges.is_multiple_of(TIDY_EVERY)).await
                }
            };
            if let Err(error) = done {
                return error;
            }
        }
    }

    async fn hear(&self, session: &PeerSession, notice: Notice) -> Result<(), StorageError> {
        let own = notice.from == self.id;
        // It knows what it commits, except when it does not.
        if own && !self.doubt.lasts() {
            return Ok(());
        }
        if !own {
            notice.present.into_iter().for_each(|worker| self.presences.is_elsewhere(worker));
            for worker in notice.sought.into_iter().filter(|worker| self.presences.is_here(*worker)) {
                session.say(&notice::present(self.id, worker)).await?;
            }
        }
        for (worker, run) in notice.news {
            self.workers.tell_marked(worker, run);
        }
        if notice.look_again {
            return self.look_again().await;
        }
        let ended: Vec<RunId> = notice.ended.into_iter().filter(|run| self.watchers.is_watched(*run)).collect();
        self.look_up(&ended).await
    }

    /// Wakes those who wait for runs that have ended.
    async fn look_up(&self, runs: &[RunId]) -> Result<(), StorageError> {
        for some in runs.chunks(LOOK_UP) {
            let some = some.to_vec();
            let rows = self.readers.read(move |store| store.load(&some)).await;
            for run in rows.map_err(|error| StorageError::Failed(error.to_string()))?.into_iter().flatten().flatten() {
                if run.head.state.is_terminal() {
                    self.watchers.ended(&run.head);
                }
            }
        }
        Ok(())
    }

    /// Anything may have happened.
    async fn look_again(&self) -> Result<(), StorageError> {
        self.timer.look_again();
        self.look_up(&self.watchers.watched()).await?;
        for namespace in self.workers.listening() {
            let of = namespace.clone();
            let holders = self.readers.read(move |store| store.holders(&of, HOLDERS)).await;
            for (worker, run, _) in holders.map_err(|error| StorageError::Failed(error.to_string()))? {
                self.workers.tell(&namespace, &worker, run);
            }
        }
        Ok(())
    }

    async fn exchange(&self, session: &PeerSession, tidy: bool) -> Result<(), StorageError> {
        let now = self.clock.now();
        let untold = self.workers.untold();
        if let Err(error) = session.tell(&untold).await {
            self.workers.not_told(&untold);
            return Err(error);
        }
        let (since, limit) = Workers::believed(now);
        self.workers.learn(session.workers(since, limit).await?);
        if tidy { session.tidy(now).await } else { Ok(()) }
    }
}
