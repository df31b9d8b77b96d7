//! Telling the transport and the server what became of deliveries and claims.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aiki_core::name::Name;
use aiki_core::server_client::{ClaimRef, ClaimStatus};
use aiki_core::subscriber::{Receipt, ReleaseDelay};
use aiki_core::{RunId, ServerClient, SubscriberError};
use futures::future::join_all;
use tokio::time::timeout;

use super::settlement::Settlement;
use crate::batch::{MAX_ITEMS, call_all};
use crate::session::Session;
use crate::trace;

/// One call to the server or the transport lasts at most this long here.
pub(super) const CALL_LIMIT: Duration = Duration::from_secs(2);

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
    let PerSession { ack, release } = work;
    let (worker, subscriber) = (worker.as_str(), &session.subscriber);
    let acks = ack.chunks(MAX_ITEMS).map(|receipts| tell(worker, subscriber.ack(receipts)));
    call_all(acks).await;
    for (delay, receipts) in &release {
        let releases = receipts.chunks(MAX_ITEMS).map(|receipts| tell(worker, subscriber.release(receipts, *delay)));
        call_all(releases).await;
    }
}

async fn tell(worker: &str, call: impl Future<Output = Result<(), SubscriberError>>) {
    match timeout(CALL_LIMIT, call).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => trace::settle_failed(worker, &error),
        Err(elapsed) => trace::settle_failed(worker, &elapsed),
    }
}

/// Gives claims back in as few calls as the server takes.
async fn hand_back(server: &dyn ServerClient, worker: &Name, claims: &[ClaimRef]) -> HandedBack {
    let calls = claims.chunks(MAX_ITEMS).map(|claims| async move { (claims, give_back(server, worker, claims).await) });
    let mut handed_back = HandedBack::default();
    for (claims, answers) in call_all(calls).await {
        for (at, claim) in claims.iter().enumerate() {
            match answers.get(at) {
                Some(ClaimStatus::Held) => handed_back.done.push(claim.run),
                Some(ClaimStatus::Lost) => handed_back.lost.push(claim.run),
                None => handed_back.unconfirmed.push(claim.run),
            }
        }
    }
    handed_back
}

/// Gives these claims back in one call; no answers when it failed.
async fn give_back(server: &dyn ServerClient, worker: &Name, claims: &[ClaimRef]) -> Vec<ClaimStatus> {
    match timeout(CALL_LIMIT, server.release_runs(worker, claims)).await {
        Ok(Ok(answers)) => return answers,
        Ok(Err(error)) => trace::hand_back_failed(worker.as_str(), &error),
        Err(elapsed) => trace::hand_back_failed(worker.as_str(), &elapsed),
    }
    Vec::new()
}
