//! Renewing deliveries, so that the transport does not give them to somebody else meanwhile.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use aiki_core::subscriber::Receipt;
use tokio::time::{sleep, timeout};

use crate::batch::{MAX_ITEMS, call_all};
use crate::session::Session;
use crate::trace;
use crate::worker::Shared;

/// One renewal lasts at most this long.
const CALL_LIMIT: Duration = Duration::from_secs(5);

/// Failures and answers change nothing: only the server says who owns a run. A delivery that is lost
/// costs a redelivery, which the server answers.
pub(super) async fn keep(shared: &Shared) -> Infallible {
    loop {
        sleep(shared.settings.heartbeat).await;
        let mut sessions: BTreeMap<u32, (Arc<Session>, Vec<Receipt>)> = BTreeMap::new();
        for active in shared.active.all() {
            let session = &active.session;
            let (_, receipts) = sessions.entry(session.generation).or_insert_with(|| (session.clone(), Vec::new()));
            receipts.push(active.receipt.clone());
        }
        for (session, receipts) in sessions.into_values() {
            let renewals = receipts.chunks(MAX_ITEMS).map(|receipts| renew(shared, &session, receipts));
            call_all(renewals).await;
        }
    }
}

async fn renew(shared: &Shared, session: &Session, receipts: &[Receipt]) {
    match timeout(CALL_LIMIT, session.subscriber.heartbeat(receipts)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => trace::settle_failed(shared.name.as_str(), &error),
        Err(elapsed) => trace::settle_failed(shared.name.as_str(), &elapsed),
    }
}
