//! What happens to a delivery after it was made.

use aiki_core::RunId;
use aiki_core::subscriber::{DeliveryLease, Receipt, ReleaseDelay};
use tokio::time::Instant;

use super::entry::{Hold, Place, read_receipt};
use super::{Broker, End, ListenerId, later};

impl Broker {
    /// Settles what this listener still holds under these receipts.
    pub(crate) fn ack(&mut self, id: ListenerId, receipts: &[Receipt]) {
        for receipt in receipts {
            let Some((run, hold)) = self.mine(id, receipt) else { continue };
            self.held.remove(&hold.turn);
            match self.runs.get(&run) {
                Some(entry) if entry.again => self.enqueue(run, End::Back),
                Some(entry) => {
                    self.streams.leave(entry.stream);
                    self.runs.remove(&run);
                }
                None => {}
            }
        }
    }

    /// Renews what this listener still holds under these receipts.
    pub(crate) fn heartbeat(&mut self, id: ListenerId, receipts: &[Receipt], now: Instant) -> Vec<DeliveryLease> {
        receipts.iter().map(|receipt| self.renew(id, receipt, now)).collect()
    }

    fn renew(&mut self, id: ListenerId, receipt: &Receipt, now: Instant) -> DeliveryLease {
        let Some((run, delivery)) = read_receipt(receipt) else { return DeliveryLease::Gone };
        let turn = self.number();
        let Some(entry) = self.runs.get_mut(&run) else { return DeliveryLease::Gone };
        let Place::Held(hold) = &mut entry.place else { return DeliveryLease::Gone };
        if hold.by != id {
            return DeliveryLease::Others;
        }
        if hold.delivery != delivery {
            return DeliveryLease::Gone;
        }
        self.held.remove(&hold.turn);
        self.held.insert(turn, run);
        hold.turn = turn;
        hold.renewed = now;
        DeliveryLease::Mine
    }

    /// Hands back what this listener still holds under these receipts.
    pub(crate) fn release(&mut self, id: ListenerId, receipts: &[Receipt], delay: ReleaseDelay, now: Instant) {
        for receipt in receipts {
            let Some((run, hold)) = self.mine(id, receipt) else { continue };
            self.held.remove(&hold.turn);
            match delay {
                ReleaseDelay::After(delay) if !delay.is_zero() => self.delay(run, later(now, delay)),
                _ => self.enqueue(run, End::Back),
            }
        }
    }

    fn delay(&mut self, run: RunId, until: Instant) {
        let key = (until, self.number());
        let Some(entry) = self.runs.get_mut(&run) else { return };
        if entry.again {
            // The news is younger than the reason to wait.
            return self.enqueue(run, End::Back);
        }
        entry.place = Place::Delayed { key };
        let stream = entry.stream;
        self.delayed.insert(key, run);
        self.wake_all(stream);
    }

    /// Makes everything available that a listener holds, in the order in which it was delivered.
    pub(super) fn hand_back_all(&mut self, id: ListenerId) {
        let mut mine: Vec<(u64, u64, RunId)> = self
            .held
            .iter()
            .filter_map(|(turn, run)| match self.runs.get(run)?.place {
                Place::Held(hold) if hold.by == id => Some((hold.delivery, *turn, *run)),
                _ => None,
            })
            .collect();
        mine.sort_unstable();
        for (_, turn, run) in mine.into_iter().rev() {
            self.held.remove(&turn);
            self.enqueue(run, End::Front);
        }
    }

    /// Makes available whose delay is over or whose holder has been silent for too long.
    pub(super) fn collect_due(&mut self, now: Instant) {
        while let Some(entry) = self.delayed.first_entry().filter(|entry| entry.key().0 <= now) {
            let run = entry.remove();
            self.enqueue(run, End::Back);
        }
        while let Some((turn, run)) = self.silent_longest(now) {
            self.held.remove(&turn);
            self.enqueue(run, End::Front);
        }
    }

    fn silent_longest(&self, now: Instant) -> Option<(u64, RunId)> {
        let (turn, run) = self.held.first_key_value()?;
        (self.lapses_at(*run)? <= now).then_some((*turn, *run))
    }

    fn lapses_at(&self, run: RunId) -> Option<Instant> {
        match self.runs.get(&run)?.place {
            Place::Held(hold) => Some(later(hold.renewed, self.config.claim_min_idle_time)),
            _ => None,
        }
    }

    /// When a call that finds nothing at `now` must look again, whatever happens until then. What is
    /// taken later lapses later than `now` plus the lease, so that time is a bound of its own.
    pub(crate) fn look_again_at(&self, now: Instant) -> Instant {
        let lapse = self.held.first_key_value().and_then(|(_, run)| self.lapses_at(*run));
        let delay = self.delayed.first_key_value().map(|(key, _)| key.0);
        let bound = later(now, self.config.claim_min_idle_time);
        [lapse, delay].into_iter().flatten().fold(bound, Instant::min)
    }

    /// The run under this receipt and the hold on it, if this listener has it.
    pub(super) fn mine(&self, id: ListenerId, receipt: &Receipt) -> Option<(RunId, Hold)> {
        let (run, delivery) = read_receipt(receipt)?;
        match self.runs.get(&run)?.place {
            Place::Held(hold) if hold.by == id && hold.delivery == delivery => Some((run, hold)),
            _ => None,
        }
    }
}
