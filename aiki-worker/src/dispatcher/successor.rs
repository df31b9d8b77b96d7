//! A claim that waits for another one's end.

use std::time::Duration;

use aiki_core::server_client::ClaimedRun;
use aiki_core::subscriber::{Delivery, ReleaseDelay};
use tokio::time::Instant;

use super::settlement::{Settlement, Ticket, claim_ref};

/// A newer claim of a run whose old pass has not ended yet. It is not prolonged while it waits.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Successor {
    pub(crate) generation: u32,
    /// When the claim was sent at the earliest.
    pub(crate) sent: Instant,
    pub(crate) delivery: Delivery,
    pub(crate) claimed: ClaimedRun,
}

impl Successor {
    pub(crate) fn ticket(&self) -> Ticket {
        Ticket { generation: self.generation, receipt: self.delivery.receipt.clone() }
    }

    /// See [`lasts_from`].
    pub(crate) fn lasts_from(&self, lease: Duration) -> Instant {
        lasts_from(self.sent, &self.claimed, lease)
    }

    /// Gives it back.
    pub(crate) fn give_up(self, settle: &mut Settlement) {
        settle.hand_back.push(claim_ref(&self.claimed));
        settle.release.push((self.ticket(), ReleaseDelay::None));
    }
}

/// The moment from which a claim that was asked for at `sent` lasts for a `lease`: one that was granted after a wait
/// lasts longer.
pub(crate) fn lasts_from(sent: Instant, claimed: &ClaimedRun, lease: Duration) -> Instant {
    sent + claimed.lease.saturating_sub(lease)
}
