//! Telling the transport and the server what became of deliveries and claims.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aiki_core::name::Name;
use aiki_core::server_client::{ClaimRef, ClaimStatus};
use aiki_core::subscriber::{Receipt, ReleaseDelay};
use aiki_core::{RunId, ServerClient};
use futures::future::join_all;
use tokio::time::timeout;

use super::state::Settlement;
use crate::session::Session;
use crate::trace;

/// One call to the server or the transport lasts at most this long here.
const CALL_LIMIT: Duration = Duration::from_secs(2);

/// What became of claims that were given back.
#[derive(Debug, Default)]
pub(crate) struct HandedBack {
    pub(crate) done: Vec<RunId>,
    pub(crate) lost: Vec<RunId>,
    pub(crate) unconfirmed: Vec<RunId>,
}

/// What is settled in one go.
pub(crate) struct Errand {
    pub(crate) server: Arc<dyn ServerClient>,
    pub(crate) worker: Name,
    pub(crate) settlement: Settlement,
    pub(crate) sessions: BTreeMap<u32, Arc<Session>>,
    /// Subscriptions that are over once this is settled.
    pub(crate) close: Vec<Arc<Session>>,
}

#[derive(Default)]
struct PerSession {
    ack: Vec<Receipt>,
    release: Vec<(ReleaseDelay, Vec<Receipt>)>,
}

impl Errand {
    /// Claims go back first: a delivery that is released earlier would meet our own live lease.
    pub(crate) async fn run(self) -> HandedBack {
        let Errand { server, worker, settlement, sessions, close } = self;
        let handed_back = hand_back(&*server, &worker, &settlement.hand_back).await;
        let mut grouped: BTreeMap<u32, PerSession> = BTreeMap::new();
        for ticket in settlement.ack {
            grouped.entry(ticket.generation).or_default().ack.push(ticket.receipt);
        }
        for (ticket, delay) in settlement.release {
            let release = &mut grouped.entry(ticket.generation).or_default().release;
            match release.iter_mut().find(|(known, _)| *known == delay) {
                Some((_, receipts)) => receipts.push(ticket.receipt),
                None => release.push((delay, vec![ticket.receipt])),
            }
        }
        let settled = grouped.into_iter().filter_map(|(generation, work)| {
            let session = sessions.get(&generation)?.clone();
            Some(settle_session(worker.clone(), session, work))
        });
        join_all(settled).await;
        for session in close {
            drop(timeout(CALL_LIMIT, session.subscriber.close()).await);
        }
        handed_back
    }
}

async fn settle_session(worker: Name, session: Arc<Session>, work: PerSession) {
    let told = |result: Result<Result<(), aiki_core::SubscriberError>, tokio::time::error::Elapsed>| match result {
        Ok(Ok(())) => {}
        Ok(Err(error)) => trace::settle_failed(worker.as_str(), &error),
        Err(elapsed) => trace::settle_failed(worker.as_str(), &elapsed),
    };
    if !work.ack.is_empty() {
        told(timeout(CALL_LIMIT, session.subscriber.ack(&work.ack)).await);
    }
    for (delay, receipts) in work.release {
        told(timeout(CALL_LIMIT, session.subscriber.release(&receipts, delay)).await);
    }
}

async fn hand_back(server: &dyn ServerClient, worker: &Name, claims: &[ClaimRef]) -> HandedBack {
    let mut handed_back = HandedBack::default();
    if claims.is_empty() {
        return handed_back;
    }
    let answers = match timeout(CALL_LIMIT, server.release_runs(worker, claims)).await {
        Ok(Ok(answers)) => answers,
        Ok(Err(error)) => {
            trace::hand_back_failed(worker.as_str(), &error);
            Vec::new()
        }
        Err(elapsed) => {
            trace::hand_back_failed(worker.as_str(), &elapsed);
            Vec::new()
        }
    };
    for (at, claim) in claims.iter().enumerate() {
        match answers.get(at) {
            Some(ClaimStatus::Held) => handed_back.done.push(claim.run),
            Some(ClaimStatus::Lost) => handed_back.lost.push(claim.run),
            None => handed_back.unconfirmed.push(claim.run),
        }
    }
    handed_back
}
