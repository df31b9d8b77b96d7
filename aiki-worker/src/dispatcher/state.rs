//! What the dispatcher decides. Synchronous: no runtime, no clock, nothing is sent from here.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use aiki_core::server_client::{ClaimOutcome, ClaimRef, ClaimedRun};
use aiki_core::subscriber::{Delivery, ReleaseDelay};
use aiki_core::{Outcome, RunId, WorkflowKey};
use tokio::time::Instant;

use super::settlement::{Settlement, Ticket, claim_ref};
use super::successor::{Successor, lasts_from};

/// At most so many runs are received and claimed at once.
pub(crate) const MAX_BATCH: usize = 256;
const _: () = assert!(MAX_BATCH <= crate::batch::MAX_ITEMS, "they are claimed in one call");
/// While so many deliveries wait to be settled, nothing new is received.
pub(crate) const MAX_UNSETTLED: usize = 4_096;
/// A second delivery of a run that is held here comes back after this time.
const DUPLICATE_DELAY: Duration = Duration::from_secs(1);
/// A run that this worker does not serve comes back, for somebody who does, after this time.
const UNSERVED_DELAY: Duration = Duration::from_secs(5);

/// What to do with deliveries or claims that have arrived.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Sorted {
    pub(crate) claim: Vec<Delivery>,
    pub(crate) start: Vec<(Delivery, ClaimedRun)>,
    /// Runs whose present pass has lost its claim.
    pub(crate) lost: Vec<RunId>,
    /// Runs whose claim was answered too late to begin with: it goes back.
    pub(crate) late: Vec<RunId>,
    pub(crate) settle: Settlement,
}

/// What to do when an execution has ended.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Ended {
    pub(crate) settle: Settlement,
    /// The run's next claim, which was granted meanwhile.
    pub(crate) next: Option<Successor>,
}

/// What intake does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Receive at most so many; the slots for them are taken.
    Receive(usize),
    /// Nothing before this time.
    Wait(Instant),
    /// Nothing until something else happens.
    Rest,
}

#[derive(Debug)]
enum Intake {
    Ready,
    /// Receiving or claiming, with so many slots taken.
    Busy(usize),
    Waiting(Instant),
}

#[derive(Debug)]
struct Held {
    epoch: u64,
    ticket: Ticket,
    /// Takes over when the present pass has ended.
    next: Option<Box<Successor>>,
}

/// The dispatcher's state.
#[derive(Debug)]
pub(crate) struct State {
    slots: usize,
    lease: Duration,
    held: BTreeMap<RunId, Held>,
    claiming: HashSet<RunId>,
    intake: Intake,
    failures: u32,
    closed: bool,
}

impl State {
    pub(crate) fn new(slots: usize, lease: Duration) -> Self {
        Self {
            slots,
            lease,
            held: BTreeMap::new(),
            claiming: HashSet::new(),
            intake: Intake::Ready,
            failures: 0,
            closed: false,
        }
    }

    /// Nothing is started from here on: what is still granted is given back.
    pub(crate) fn close(&mut self) -> Settlement {
        self.closed = true;
        let mut settle = Settlement::default();
        for next in self.held.values_mut().filter_map(|held| held.next.take()) {
            next.give_up(&mut settle);
        }
        settle
    }

    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    /// Whether every slot is taken by a run: nothing more is asked for then.
    pub(crate) fn is_full(&self) -> bool {
        self.held.len() >= self.slots
    }

    pub(crate) fn held_runs(&self) -> Vec<RunId> {
        self.held.keys().copied().collect()
    }

    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// Whether a run is held that came through this subscription.
    pub(crate) fn uses(&self, generation: u32) -> bool {
        let next = |held: &Held| held.next.as_ref().is_some_and(|next| next.generation == generation);
        self.held.values().any(|held| held.ticket.generation == generation || next(held))
    }

    fn free(&self) -> usize {
        let taken = if let Intake::Busy(permits) = self.intake { permits } else { 0 };
        self.slots.saturating_sub(self.held.len() + taken)
    }

    /// What intake does next. Slots are taken before anything is read, so nothing is received that
    /// could not be started. `unsettled` deliveries wait to be settled.
    pub(crate) fn next(&mut self, now: Instant, paused: bool, unsettled: usize) -> Next {
        if self.closed || paused || unsettled > MAX_UNSETTLED {
            return Next::Rest;
        }
        match self.intake {
            Intake::Busy(_) => return Next::Rest,
            Intake::Waiting(until) if until > now => return Next::Wait(until),
            Intake::Waiting(_) | Intake::Ready => self.intake = Intake::Ready,
        }
        match self.free().min(MAX_BATCH) {
            0 => Next::Rest,
            limit => {
                self.intake = Intake::Busy(limit);
                Next::Receive(limit)
            }
        }
    }

    /// The receive under way was dropped, or led to nothing that had to be waited for.
    pub(crate) fn intake_ends(&mut self) {
        self.intake = Intake::Ready;
        self.claiming.clear();
    }

    /// Receiving or claiming failed, or found nothing: the next try is at `until`.
    pub(crate) fn intake_waits(&mut self, until: Instant, failed: bool) {
        self.intake_ends();
        self.intake = Intake::Waiting(until);
        self.failures = if failed { self.failures.saturating_add(1) } else { 0 };
    }

    /// Whether the lease of a claim can be relied on until the first heartbeat, at most a third of it from now:
    /// nobody has prolonged it since it began, so long ago, and a pass that begins later would only be cut off.
    fn may_begin(&self, waited: Duration) -> bool {
        waited < self.lease / 2
    }

    /// Sorts what was received just now, by a call that was made at `sent`.
    pub(crate) fn received(
        &mut self,
        deliveries: Vec<Delivery>,
        generation: u32,
        (sent, now): (Instant, Instant),
        serves: impl Fn(&WorkflowKey) -> bool,
    ) -> Sorted {
        let limit = if let Intake::Busy(permits) = self.intake { permits } else { 0 };
        self.failures = 0;
        self.intake_ends();
        let mut sorted = Sorted::default();
        for mut delivery in deliveries {
            let ticket = Ticket { generation, receipt: delivery.receipt.clone() };
            let granted_anew = !self.closed && self.held.contains_key(&delivery.run);
            if granted_anew && let Some(claimed) = delivery.claimed.take() {
                self.succeed(Successor { generation, sent, delivery, claimed: *claimed }, &mut sorted);
                continue;
            }
            let taken = self.claiming.len() + sorted.start.len();
            let put_back = if self.closed || taken >= limit {
                Some(ReleaseDelay::None)
            } else if delivery.claimed.as_deref().is_some_and(|claimed| {
                !self.may_begin(now.saturating_duration_since(lasts_from(sent, claimed, self.lease)))
            }) {
                sorted.late.push(delivery.run);
                Some(ReleaseDelay::None)
            } else if !serves(&delivery.workflow) {
                Some(ReleaseDelay::After(UNSERVED_DELAY))
            } else if self.is_held(&delivery, &ticket) {
                // The transport repeats a delivery that is held: it is settled when its run ends.
                continue;
            } else if self.held.contains_key(&delivery.run) || self.claiming.contains(&delivery.run) {
                // Not acknowledged: it may announce what comes after the run's present pass.
                Some(ReleaseDelay::After(DUPLICATE_DELAY))
            } else {
                None
            };
            match (put_back, delivery.claimed.as_deref().cloned()) {
                (Some(delay), claimed) => {
                    sorted.settle.hand_back.extend(claimed.map(|claimed| claim_ref(&claimed)));
                    sorted.settle.release.push((ticket, delay));
                }
                (None, Some(claimed)) => {
                    self.held.insert(delivery.run, Held { epoch: claimed.epoch, ticket, next: None });
                    sorted.start.push((delivery, claimed));
                }
                (None, None) => {
                    self.claiming.insert(delivery.run);
                    sorted.claim.push(delivery);
                }
            }
        }
        if !sorted.claim.is_empty() {
            self.intake = Intake::Busy(sorted.claim.len());
        }
        sorted
    }

    /// A claim came in for a run that is held here already.
    fn succeed(&mut self, successor: Successor, sorted: &mut Sorted) {
        let Some(held) = self.held.get_mut(&successor.delivery.run) else { return };
        let newest = held.next.as_ref().map_or(held.epoch, |next| next.claimed.epoch);
        match successor.claimed.epoch.cmp(&newest) {
            // A newer claim proves that the older one is gone. It waits: handed back, it would only be
            // granted again at once.
            std::cmp::Ordering::Greater => {
                let run = successor.delivery.run;
                match held.next.replace(Box::new(successor)) {
                    Some(older) => older.give_up(&mut sorted.settle),
                    None => sorted.lost.push(run),
                }
            }
            // The same claim again: it is settled when its pass ends.
            std::cmp::Ordering::Equal => {}
            // An answer that was overtaken.
            std::cmp::Ordering::Less => successor.give_up(&mut sorted.settle),
        }
    }

    /// Whether this very delivery is the one under which its run is held.
    fn is_held(&self, delivery: &Delivery, ticket: &Ticket) -> bool {
        delivery.claimed.is_none() && self.held.get(&delivery.run).is_some_and(|held| held.ticket == *ticket)
    }

    /// Sorts the answers to a claim, which took so long since it was sent.
    pub(crate) fn claimed(
        &mut self,
        deliveries: Vec<Delivery>,
        generation: u32,
        outcomes: Vec<ClaimOutcome>,
        waited: Duration,
    ) -> Sorted {
        let may_begin = self.may_begin(waited);
        self.failures = 0;
        self.intake_ends();
        let mut sorted = Sorted::default();
        let mut outcomes = outcomes.into_iter();
        for delivery in deliveries {
            let ticket = Ticket { generation, receipt: delivery.receipt.clone() };
            match outcomes.next() {
                Some(ClaimOutcome::Granted(claimed)) if self.closed || !may_begin => {
                    sorted.late.extend((!may_begin).then_some(delivery.run));
                    sorted.settle.hand_back.push(claim_ref(&claimed));
                    sorted.settle.release.push((ticket, ReleaseDelay::None));
                }
                Some(ClaimOutcome::Granted(claimed)) => {
                    self.held.insert(delivery.run, Held { epoch: claimed.epoch, ticket, next: None });
                    sorted.start.push((delivery, *claimed));
                }
                // Idle time C minus the remaining lease: it comes again when that lease has lapsed.
                Some(ClaimOutcome::Owned { remaining }) => {
                    sorted.settle.release.push((ticket, ReleaseDelay::After(remaining.min(self.lease))));
                }
                Some(ClaimOutcome::Done) => sorted.settle.ack.push(ticket),
                None => sorted.settle.release.push((ticket, ReleaseDelay::After(DUPLICATE_DELAY))),
            }
        }
        sorted
    }

    /// The claim failed: everything is put back, not before `until`.
    pub(crate) fn claim_failed(
        &mut self,
        deliveries: Vec<Delivery>,
        generation: u32,
        now: Instant,
        delay: Duration,
    ) -> Settlement {
        self.intake_waits(now + delay, true);
        let release = deliveries
            .into_iter()
            .map(|delivery| (Ticket { generation, receipt: delivery.receipt }, ReleaseDelay::After(delay)))
            .collect();
        Settlement { release, ..Settlement::default() }
    }

    /// An execution ended, or is given up (then as [`Outcome::Interrupted`]).
    pub(crate) fn ended(&mut self, run: RunId, outcome: Outcome, now: Instant) -> Ended {
        let Some(Held { epoch, ticket, next }) = self.held.remove(&run) else { return Ended::default() };
        let mut settle = Settlement::default();
        if outcome.settles_delivery() {
            settle.ack.push(ticket);
        } else {
            settle.hand_back.push(ClaimRef { run, epoch });
            settle.release.push((ticket, ReleaseDelay::None));
        }
        let next = match next {
            // It waited unprolonged: it may be lost by now.
            Some(next) if !self.may_begin(now.saturating_duration_since(next.lasts_from(self.lease))) => {
                next.give_up(&mut settle);
                None
            }
            Some(next) => {
                let held = Held { epoch: next.claimed.epoch, ticket: next.ticket(), next: None };
                self.held.insert(run, held);
                Some(*next)
            }
            None => None,
        };
        Ended { settle, next }
    }
}

#[cfg(test)]
mod tests;
