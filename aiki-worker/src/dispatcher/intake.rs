//! Subscribing, receiving and claiming: at most one of them is under way.

use std::sync::Arc;
use std::time::Duration;

use aiki_core::server_client::{ClaimOutcome, ClaimRuns};
use aiki_core::subscriber::{Delivery, SubscriberError, Subscription};
use aiki_core::{RunId, ServerError, Subscriber};
use futures::future::BoxFuture;
use tokio::time::Instant;

use super::Dispatcher;
use super::settlement::Ticket;
use super::state::Next;
use crate::backoff;
use crate::error::WorkerError;
use crate::lifecycle::Control;
use crate::measure::Through;
use crate::session::Session;
use crate::status::WorkerPhase;
use crate::trace;

/// What is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Subscribing,
    Receiving,
    Claiming,
}

pub(super) struct Intake {
    stage: Stage,
    /// What is being claimed.
    claiming: Vec<(RunId, Ticket)>,
    future: BoxFuture<'static, IntakeEvent>,
}

impl Intake {
    /// Whether it may be dropped without losing anything.
    pub(super) fn is_cancel_safe(&self) -> bool {
        self.stage != Stage::Claiming
    }

    /// Drops it. What it was claiming: the server may have granted that.
    pub(super) fn abandon(self) -> Vec<(RunId, Ticket)> {
        self.claiming
    }
}

/// How a stage ended.
pub(super) enum IntakeEvent {
    Subscribed {
        registry_version: u64,
        result: Result<Box<dyn Subscriber>, SubscribeError>,
    },
    Received {
        session: Arc<Session>,
        began: Instant,
        result: Result<Vec<Delivery>, SubscriberError>,
    },
    Claimed {
        session: Arc<Session>,
        sent: Instant,
        deliveries: Vec<Delivery>,
        result: Result<Vec<ClaimOutcome>, ServerError>,
    },
}

pub(super) enum SubscribeError {
    Server(ServerError),
    Transport(SubscriberError),
}

/// Waits for the stage under way.
pub(super) async fn next(intake: &mut Option<Intake>) -> IntakeEvent {
    let Some(Intake { future, .. }) = intake else { return std::future::pending().await };
    let event = future.await;
    *intake = None;
    event
}

impl Dispatcher {
    /// Drops a receive that is not wanted any more: intake is paused, or other workflows are served.
    pub(super) fn steer(&mut self, control: Control) {
        let receiving = self.intake.as_ref().is_some_and(|intake| intake.stage == Stage::Receiving);
        let outdated = self.wants_session(control) && self.subscribe_at <= Instant::now();
        if receiving && (control.rests() || outdated) {
            self.intake = None;
            self.state.intake_ends();
        }
    }

    fn wants_session(&self, control: Control) -> bool {
        self.session.as_ref().is_none_or(|session| session.registry_version != control.registry_version)
    }

    /// Begins what intake needs next, if anything; says when to look again.
    pub(super) fn launch(&mut self, control: Control) -> Option<Instant> {
        if self.intake.is_some() {
            return None;
        }
        let now = Instant::now();
        let mut look_again = None;
        if self.wants_session(control) {
            if self.subscribe_at <= now {
                self.intake = Some(self.subscribe(control.registry_version));
                return None;
            }
            look_again = Some(self.subscribe_at);
        }
        let Some(session) = self.session.clone() else { return look_again };
        match self.state.next(now, control.rests(), self.unsettled.len()) {
            Next::Rest => look_again,
            Next::Wait(until) => Some(look_again.map_or(until, |again| again.min(until))),
            Next::Receive(limit) => {
                self.intake = Some(receive(session, limit));
                // A receive may last: an overdue subscription must not wait for it.
                look_again
            }
        }
    }

    fn subscribe(&mut self, registry_version: u64) -> Intake {
        let shared = self.shared.clone();
        self.generations += 1;
        // No two subscriptions share a name.
        let worker = match self.generations {
            1 => shared.name.clone(),
            generation => format!("{}.{generation}", shared.name).into(),
        };
        let subscription = Subscription {
            worker,
            namespace: shared.server().namespace().clone(),
            workflows: shared.registry.served(),
            pools: shared.pools.clone(),
        };
        let future = Box::pin(async move {
            // Asks for nothing, but shows whether the server is there and accepts this worker.
            let reached = shared.server().refresh_runs(&shared.name, &[], shared.settings.lease).await;
            let result = match reached {
                Err(
                    error @ (ServerError::Unavailable(_) | ServerError::Unauthorized(_) | ServerError::Internal(_)),
                ) => Err(SubscribeError::Server(error)),
                _ => shared.factory.subscribe(subscription).await.map_err(SubscribeError::Transport),
            };
            IntakeEvent::Subscribed { registry_version, result }
        });
        Intake { stage: Stage::Subscribing, claiming: Vec::new(), future }
    }

    fn claim(&self, session: Arc<Session>, deliveries: Vec<Delivery>) -> Intake {
        let shared = self.shared.clone();
        let ticket = |delivery: &Delivery| Ticket { generation: session.generation, receipt: delivery.receipt.clone() };
        let claiming = deliveries.iter().map(|delivery| (delivery.run, ticket(delivery))).collect();
        let future = Box::pin(async move {
            let request = ClaimRuns {
                worker: shared.name.clone(),
                runs: deliveries.iter().map(|delivery| delivery.run).collect(),
                lease: shared.settings.lease,
            };
            let sent = Instant::now();
            let result = shared.server().claim_runs(request).await;
            IntakeEvent::Claimed { session, sent, deliveries, result }
        });
        Intake { stage: Stage::Claiming, claiming, future }
    }

    /// Takes in the end of a stage.
    ///
    /// # Errors
    /// What trying again cannot mend, as long as nothing has worked yet.
    pub(super) fn arrived(&mut self, event: IntakeEvent) -> Result<(), WorkerError> {
        match event {
            IntakeEvent::Subscribed { registry_version, result: Ok(subscriber) } => {
                self.subscribed(Session { generation: self.generations, registry_version, subscriber });
            }
            IntakeEvent::Subscribed { result: Err(error), .. } => self.not_subscribed(error)?,
            IntakeEvent::Received { session, began, result } => match result {
                Ok(deliveries) => self.received(session, began, deliveries),
                Err(error) => self.not_received(&session, error)?,
            },
            IntakeEvent::Claimed { session, sent, deliveries, result } => match result {
                Ok(outcomes) => {
                    self.server_trusted = true;
                    self.shared.server_reach.answered();
                    outcomes.iter().for_each(|outcome| self.shared.meter.claim(outcome));
                    let sorted = self.state.claimed(deliveries, session.generation, outcomes, sent.elapsed());
                    self.carry_out(&session, sent, sorted);
                }
                Err(error) => self.not_claimed(&session, deliveries, error)?,
            },
        }
        Ok(())
    }

    fn subscribed(&mut self, session: Session) {
        if self.session.is_none() {
            self.shared.lifecycle.advance(WorkerPhase::Running);
        }
        if session.generation == 1 {
            trace::started(self.shared.name.as_str(), self.shared.settings.slots);
        }
        self.server_trusted = true;
        self.shared.server_reach.answered();
        self.subscribe_failures = 0;
        self.retired.extend(self.session.replace(Arc::new(session)));
    }

    fn not_subscribed(&mut self, error: SubscribeError) -> Result<(), WorkerError> {
        self.subscribe_failures = self.subscribe_failures.saturating_add(1);
        let delay = self.backoff(self.subscribe_failures);
        if let SubscribeError::Transport(error) = &error {
            self.transport_failed(error);
        }
        let worker = self.shared.name.as_str();
        match error {
            SubscribeError::Server(ServerError::Unauthorized(reason)) if !self.server_trusted => {
                return Err(WorkerError::Unauthorized(reason));
            }
            SubscribeError::Transport(SubscriberError::Misconfigured(reason)) if !self.transport_trusted => {
                return Err(WorkerError::Misconfigured(reason));
            }
            SubscribeError::Server(error) => {
                self.shared.server_reach.refused(&error);
                trace::not_subscribed(worker, &error, self.subscribe_failures, delay);
            }
            SubscribeError::Transport(error) => {
                self.shared.server_reach.answered();
                self.shared.subscriber_reach.failed(&error.reason());
                trace::not_subscribed(worker, &error, self.subscribe_failures, delay);
            }
        }
        self.subscribe_at = Instant::now() + delay;
        Ok(())
    }

    fn received(&mut self, session: Arc<Session>, began: Instant, deliveries: Vec<Delivery>) {
        self.transport_trusted = true;
        self.shared.subscriber_reach.answered();
        self.consumed(&session, &deliveries);
        self.works_again();
        if deliveries.is_empty() {
            self.state.intake_waits(Instant::now() + session.subscriber.next_delay(0), false);
            return;
        }
        let registry = self.shared.registry.clone();
        let times = (began, Instant::now());
        let mut sorted = self.state.received(deliveries, session.generation, times, |key| registry.contains(key));
        if !sorted.claim.is_empty() {
            let claim = std::mem::take(&mut sorted.claim);
            self.intake = Some(self.claim(session.clone(), claim));
        }
        // Claims that came with the deliveries were sent after the receive began.
        self.carry_out(&session, began, sorted);
    }

    fn not_received(&mut self, session: &Arc<Session>, error: SubscriberError) -> Result<(), WorkerError> {
        let failures = self.state.failures().saturating_add(1);
        let delay = session.subscriber.next_delay(failures);
        match error {
            SubscriberError::Misconfigured(reason) if !self.transport_trusted => {
                return Err(WorkerError::Misconfigured(reason));
            }
            // Not by us: begin again with another subscription.
            SubscriberError::Closed => {
                self.retired.extend(self.session.take());
                self.subscribe_failures = self.subscribe_failures.saturating_add(1);
                self.subscribe_at = Instant::now() + self.backoff(self.subscribe_failures);
            }
            _ => {}
        }
        self.transport_failed(&error);
        self.shared.subscriber_reach.failed(&error.reason());
        trace::not_received(self.shared.name.as_str(), &error, failures, delay);
        self.state.intake_waits(Instant::now() + delay, true);
        Ok(())
    }

    /// A subscriber with a backup measures by itself.
    fn transport_failed(&mut self, error: &SubscriberError) {
        if self.shared.route.is_none() {
            let from_server = self.shared.factory.claims_from_server();
            let through = if from_server { Through::Server } else { Through::Subscriber };
            self.shared.meter.subscriber_error(through, error);
            self.transport_away = true;
        }
    }

    fn works_again(&mut self) {
        if std::mem::take(&mut self.transport_away) {
            self.shared.meter.reconnected();
        }
    }

    fn not_claimed(
        &mut self,
        session: &Arc<Session>,
        deliveries: Vec<Delivery>,
        error: ServerError,
    ) -> Result<(), WorkerError> {
        let failures = self.state.failures().saturating_add(1);
        let delay = self.backoff(failures);
        let fatal = matches!(error, ServerError::Unauthorized(_)) && !self.server_trusted;
        if self.shared.control.borrow().stop && error.is_transient() {
            // The server may have granted them before its answer was lost.
            self.handed_back.unconfirmed.extend(deliveries.iter().map(|delivery| delivery.run));
        }
        if !fatal {
            self.shared.server_reach.refused(&error);
            trace::claim_failed(self.shared.name.as_str(), &error, failures, delay);
        }
        self.shared.meter.claims_failed(deliveries.len());
        let settlement = self.state.claim_failed(deliveries, session.generation, Instant::now(), delay);
        self.unsettled.merge(settlement);
        match error {
            ServerError::Unauthorized(reason) if fatal => Err(WorkerError::Unauthorized(reason)),
            _ => Ok(()),
        }
    }

    fn backoff(&self, failures: u32) -> Duration {
        backoff::INTAKE.delay(failures, self.shared.entropy.next_u64())
    }
}

fn receive(session: Arc<Session>, limit: usize) -> Intake {
    let future = Box::pin(async move {
        let began = Instant::now();
        let result = session.subscriber.receive(limit).await;
        IntakeEvent::Received { session, began, result }
    });
    Intake { stage: Stage::Receiving, claiming: Vec::new(), future }
}
