//! What has to be told to others about deliveries and claims.

use aiki_core::server_client::{ClaimRef, ClaimedRun};
use aiki_core::subscriber::{Receipt, ReleaseDelay};

/// A delivery and the subscription that it came through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) generation: u32,
    pub(crate) receipt: Receipt,
}

/// What has to be told to the transport and to the server, in any order among itself.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Settlement {
    pub(crate) ack: Vec<Ticket>,
    pub(crate) release: Vec<(Ticket, ReleaseDelay)>,
    pub(crate) hand_back: Vec<ClaimRef>,
}

impl Settlement {
    pub(crate) fn len(&self) -> usize {
        self.ack.len() + self.release.len() + self.hand_back.len()
    }

    pub(crate) fn merge(&mut self, other: Settlement) {
        self.ack.extend(other.ack);
        self.release.extend(other.release);
        self.hand_back.extend(other.hand_back);
    }
}

/// The name of a claim.
pub(crate) fn claim_ref(claimed: &ClaimedRun) -> ClaimRef {
    ClaimRef { run: claimed.record.id, epoch: claimed.epoch }
}
