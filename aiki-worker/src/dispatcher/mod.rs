//! Receives, claims, starts and settles.
//!
//! [`State`](state::State) decides; the loop here performs. At most one receive or claim is under
//! way, and at most one errand of settlements; what comes up meanwhile forms the next batch.

mod intake;
mod settle;
mod settlement;
mod shutdown;
pub(crate) mod state;
mod successor;

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use aiki_core::server_client::ClaimedRun;
use aiki_core::subscriber::Delivery;
use aiki_core::{ExecutionScope, Outcome, RunId, Timestamp, WorkflowExecutor};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

use crate::active::Begun;
use crate::error::WorkerError;
use crate::lifecycle::{Control, End};
use crate::measure::Through;
use crate::session::Session;
use crate::trace;
use crate::worker::Shared;
use intake::Intake;
use settle::{Errand, HandedBack};
use settlement::Settlement;
use state::{Sorted, State};

/// A run whose executor gave up is handed back after this time, so that it cannot come back in a hot
/// loop.
const GIVE_UP_PAUSE: Duration = Duration::from_secs(1);

/// The loop goes round at least this often, so that it can be seen that it does.
const TICK: Duration = Duration::from_secs(1);

/// The dispatcher of one worker. It ends when the worker is told to stop.
pub(crate) struct Dispatcher {
    shared: Arc<Shared>,
    control: watch::Receiver<Control>,
    state: State,
    session: Option<Arc<Session>>,
    /// Replaced subscriptions with deliveries that are not settled yet.
    retired: Vec<Arc<Session>>,
    generations: u32,
    /// When a subscription is tried again, after so many failures.
    subscribe_at: Instant,
    subscribe_failures: u32,
    /// The server has accepted a call, the transport a receive: later refusals are passing trouble.
    server_trusted: bool,
    transport_trusted: bool,
    /// The transport failed since it last answered.
    transport_away: bool,
    intake: Option<Intake>,
    running: JoinSet<(RunId, Outcome)>,
    task_runs: HashMap<tokio::task::Id, RunId>,
    unsettled: Settlement,
    errand: Option<BoxFuture<'static, HandedBack>>,
    handed_back: HandedBack,
}

impl Dispatcher {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let (slots, lease) = (shared.settings.slots, shared.settings.lease);
        Self {
            control: shared.control.subscribe(),
            state: State::new(slots, lease),
            shared,
            session: None,
            retired: Vec::new(),
            generations: 0,
            subscribe_at: Instant::now(),
            subscribe_failures: 0,
            server_trusted: false,
            transport_trusted: false,
            transport_away: false,
            intake: None,
            running: JoinSet::new(),
            task_runs: HashMap::new(),
            unsettled: Settlement::default(),
            errand: None,
            handed_back: HandedBack::default(),
        }
    }

    /// Works until told to stop, then stops.
    pub(crate) async fn run(mut self) -> End {
        let error = self.work().await.err();
        let report = self.shut_down().await;
        End { report, error }
    }

    async fn work(&mut self) -> Result<(), WorkerError> {
        loop {
            let control = *self.control.borrow_and_update();
            if control.stop {
                return Ok(());
            }
            self.steer(control);
            let wait = self.launch(control);
            self.launch_errand();
            self.tick(control);
            let next_tick = (!self.shared.settings.quiet).then(|| Instant::now() + TICK);
            let next = [wait, next_tick].into_iter().flatten().min();
            tokio::select! {
                biased;
                changed = self.control.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                }
                Some(joined) = self.running.join_next_with_id(), if !self.running.is_empty() => {
                    self.joined(joined);
                    while let Some(joined) = self.running.try_join_next_with_id() {
                        self.joined(joined);
                    }
                }
                event = intake::next(&mut self.intake), if self.intake.is_some() => self.arrived(event)?,
                handed_back = next_errand(&mut self.errand), if self.errand.is_some() => self.settled(handed_back),
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            }
        }
    }

    /// Leaves a sign of life.
    fn tick(&self, control: Control) {
        let shared = &self.shared;
        let held = self.state.held() + self.unsettled.len();
        shared.pulse.tick(shared.active.ticks.now(), held, self.state.is_full() || control.rests());
        shared.meter.ticked(shared.clock.now(), self.state.held(), shared.settings.slots, held);
    }

    /// Starts what was granted and remembers what has to be settled.
    fn carry_out(&mut self, session: &Arc<Session>, claim_sent: Instant, sorted: Sorted) {
        self.unsettled.merge(sorted.settle);
        for (delivery, claimed) in sorted.start {
            self.spawn(session, claim_sent, delivery, claimed);
        }
        for active in sorted.lost.into_iter().filter_map(|run| self.shared.active.get(run)) {
            trace::claimed_anew(active.claim.run);
            active.scope.lost.cancel();
        }
    }

    fn spawn(&mut self, session: &Arc<Session>, claim_sent: Instant, delivery: Delivery, claimed: ClaimedRun) {
        let shared = &self.shared;
        let active = shared.active.begin(Begun {
            claim: aiki_core::server_client::ClaimRef { run: delivery.run, epoch: claimed.epoch },
            workflow: delivery.workflow,
            receipt: delivery.receipt,
            session: session.clone(),
            since: shared.clock.now(),
            claim_sent,
        });
        shared.counters.claimed();
        shared.meter.claim_granted();
        // It went unprolonged for so long that another worker may begin before the next heartbeat has come through.
        if claim_sent.elapsed() >= shared.settings.lease / 2 {
            trace::claimed_late(delivery.run);
            active.scope.interrupted.cancel();
        }
        let work = execute(shared.executor.clone(), claimed, active.scope.clone());
        let task = self.running.spawn(work);
        self.task_runs.insert(task.id(), delivery.run);
    }

    fn joined(&mut self, joined: Result<(tokio::task::Id, (RunId, Outcome)), JoinError>) -> Option<Outcome> {
        let (run, outcome) = match joined {
            Ok((task, ended)) => {
                self.task_runs.remove(&task);
                ended
            }
            Err(error) => (self.task_runs.remove(&error.id())?, Outcome::Interrupted),
        };
        self.ended(run, outcome);
        Some(outcome)
    }

    fn ended(&mut self, run: RunId, outcome: Outcome) {
        self.shared.active.end(run);
        self.shared.counters.ended(outcome);
        self.shared.meter.ended(outcome);
        let ended = self.state.ended(run, outcome, Instant::now());
        self.unsettled.merge(ended.settle);
        let Some(next) = ended.next else { return };
        let session = self.session.iter().chain(&self.retired).find(|session| session.generation == next.generation);
        match session.cloned() {
            Some(session) => self.spawn(&session, next.sent, next.delivery, next.claimed),
            // Sessions outlive what came through them: should one not, its claim goes back.
            None => {
                let given_up = self.state.ended(run, Outcome::Interrupted, Instant::now());
                self.unsettled.merge(given_up.settle);
            }
        }
    }

    /// Sends what is to be settled, unless an errand is under way.
    fn launch_errand(&mut self) {
        if self.errand.is_some() || (self.retired.is_empty() && self.unsettled.len() == 0) {
            return;
        }
        let state = &self.state;
        let (close, retired): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.retired).into_iter().partition(|session| !state.uses(session.generation));
        self.retired = retired;
        if close.is_empty() && self.unsettled.len() == 0 {
            return;
        }
        let known = close.iter().chain(&self.retired).chain(&self.session);
        let errand = Errand {
            server: self.shared.server().clone(),
            worker: self.shared.name.clone(),
            settlement: std::mem::take(&mut self.unsettled),
            sessions: known.map(|session| (session.generation, session.clone())).collect(),
            close,
        };
        self.errand = Some(Box::pin(errand.run()));
    }

    fn settled(&mut self, handed_back: HandedBack) {
        for _ in &handed_back.done {
            self.shared.counters.handed_back();
        }
        if self.shared.control.borrow().stop {
            self.handed_back.done.extend(handed_back.done);
            self.handed_back.lost.extend(handed_back.lost);
            self.handed_back.unconfirmed.extend(handed_back.unconfirmed);
        }
    }

    /// Takes note that somebody answered a question for deliveries, not necessarily just now.
    fn consumed(&self, session: &Session, deliveries: &[Delivery]) {
        let shared = &self.shared;
        let ago = session.subscriber.since_answer().unwrap_or_default();
        shared.pulse.consume(shared.active.ticks.now().saturating_sub(ago.as_millis() as u64));
        let now = shared.clock.now().as_millis();
        shared.meter.consumed(Timestamp::from_millis(now.saturating_sub(ago.as_millis() as u64)));
        let from_server = deliveries.iter().filter(|delivery| delivery.claimed.is_some()).count();
        shared.meter.deliveries(Through::Server, from_server);
        shared.meter.deliveries(Through::Subscriber, deliveries.len() - from_server);
    }
}

async fn next_errand(errand: &mut Option<BoxFuture<'static, HandedBack>>) -> HandedBack {
    let Some(future) = errand else { return std::future::pending().await };
    let handed_back = future.await;
    *errand = None;
    handed_back
}

/// Executes one run. A panic of the executor (handlers' panics never get here) frees its slot too.
async fn execute(executor: Arc<dyn WorkflowExecutor>, claim: ClaimedRun, scope: ExecutionScope) -> (RunId, Outcome) {
    let run = claim.record.id;
    let execution = async { executor.execute(claim, scope.clone()).await };
    let outcome = AssertUnwindSafe(execution).catch_unwind().await.unwrap_or_else(|_| {
        trace::executor_panicked(run);
        Outcome::Interrupted
    });
    if !outcome.settles_delivery() && !scope.interrupted.is_cancelled() {
        tokio::select! {
            biased;
            () = sleep(GIVE_UP_PAUSE) => {}
            () = scope.interrupted.cancelled() => {}
        }
    }
    (run, outcome)
}
