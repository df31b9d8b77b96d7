//! Places in the limits of concurrency keys, as earlier requests of the same batch left them: how many are taken, and
//! who waits for one.
//!
//! The store is asked once for each key and batch, and of those that wait only for the first: the line may be long, and
//! a run that ends lets in one of it.

use std::collections::{BTreeSet, HashMap, HashSet};

use aiki_core::run::RunHead;
use aiki_core::{Name, RunId, ServerError};

use super::desk::Desk;
use crate::storage::{Slots, Wait, slot_key, wait};

/// Runs of each line that are asked for at first. When these do not do, twice as many are.
const FIRST: usize = 4;

/// How a run counts for its key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    holds: bool,
    waits: Option<Wait>,
}

impl Standing {
    pub(super) fn of(head: &RunHead) -> Self {
        Self { holds: holds_place(head), waits: wait(head) }
    }
}

/// Whether a run holds one of the places of its key.
pub(crate) fn holds_place(head: &RunHead) -> bool {
    slot_key(head).is_some() && !head.held_back
}

/// The places of one key.
#[derive(Default)]
struct Key {
    /// What the store said, and for how many of each line it was asked.
    stored: Option<(Slots, usize)>,
    /// Places that this batch has taken, less those that it has given back.
    taken: isize,
    /// Runs that this batch has changed: what the store says of them is over.
    changed: HashSet<RunId>,
    /// Those of them that wait.
    waiting: BTreeSet<Wait>,
    /// Those that it has let in and that nobody has taken yet.
    let_in: HashSet<RunId>,
}

/// What a key knows without the store.
enum Next {
    Found(Option<Wait>),
    /// Who comes next is not among those that the store was asked for.
    Unknown,
}

impl Key {
    fn holding(&self) -> Option<usize> {
        self.stored.as_ref().map(|(slots, _)| slots.holding.saturating_add_signed(self.taken))
    }

    /// The first behind `last` whose limit is above `holding`.
    fn next(&self, last: Option<Wait>, holding: usize) -> Next {
        let Some((slots, asked)) = self.stored.as_ref().filter(|(_, asked)| *asked > 0) else { return Next::Unknown };
        let fits = |wait: &&Wait| last.is_none_or(|last| **wait > last) && holding < wait.limit as usize;
        let mut first = self.waiting.iter().find(fits);
        for (_, line) in slots.lines.iter().filter(|(limit, _)| holding < **limit as usize) {
            let next = line.iter().find(|wait| fits(wait) && !self.changed.contains(&wait.run));
            if next.is_none() && line.len() >= *asked {
                return Next::Unknown;
            }
            first = first.into_iter().chain(next).min();
        }
        Next::Found(first.copied())
    }
}

#[derive(Default)]
pub(super) struct Places(HashMap<(Name, String), Key>);

impl Places {
    fn of(&mut self, namespace: &Name, key: &str) -> &mut Key {
        self.0.entry((namespace.clone(), key.to_owned())).or_default()
    }

    /// Notes that the batch has changed a run.
    pub(super) fn note(&mut self, head: &RunHead, before: Standing) {
        let (Some(concurrency), after) = (&head.concurrency, Standing::of(head)) else { return };
        if before == after && self.0.is_empty() {
            return;
        }
        let key = self.of(&head.namespace, &concurrency.key);
        if before.waits.is_some() && head.rank().is_some() {
            key.let_in.insert(head.id);
        } else if head.rank().is_none() {
            key.let_in.remove(&head.id);
        }
        if before == after {
            return;
        }
        key.changed.insert(head.id);
        key.taken += isize::from(after.holds) - isize::from(before.holds);
        before.waits.iter().for_each(|wait| {
            key.waiting.remove(wait);
        });
        key.waiting.extend(after.waits);
    }
}

impl Desk<'_> {
    /// How many runs hold a place in the limit of a key.
    pub(crate) fn holding(&mut self, namespace: &Name, key: &str) -> Result<usize, ServerError> {
        match self.places.of(namespace, key).holding() {
            Some(holding) => Ok(holding),
            None => self.ask_for_slots(namespace, key, 0),
        }
    }

    /// How many places of a key are taken, or are about to be by runs that this batch has let in.
    pub(super) fn given(&mut self, namespace: &Name, key: &str) -> Result<usize, ServerError> {
        let holding = match &self.places.of(namespace, key).stored {
            Some((_, asked)) if *asked > 0 => self.holding(namespace, key)?,
            // Who waits is asked for next.
            _ => self.ask_for_slots(namespace, key, FIRST)?,
        };
        Ok(holding + self.places.of(namespace, key).let_in.len())
    }

    fn ask_for_slots(&mut self, namespace: &Name, key: &str, limit: usize) -> Result<usize, ServerError> {
        let slots = self.storage.slots(namespace, key, limit)?;
        let place = self.places.of(namespace, key);
        place.stored = Some((slots, limit));
        Ok(place.holding().unwrap_or_default())
    }

    /// Who waits for a place of a key and has a limit above `holding`: the first behind `last`, in the order of ready
    /// runs. One with a lower limit does not keep those behind it from a place that it cannot take.
    pub(super) fn next_waiting(
        &mut self,
        namespace: &Name,
        key: &str,
        last: Option<Wait>,
        holding: usize,
    ) -> Result<Option<Wait>, ServerError> {
        loop {
            let place = self.places.of(namespace, key);
            if let Next::Found(next) = place.next(last, holding) {
                return Ok(next);
            }
            let asked = place.stored.as_ref().map_or(0, |(_, asked)| *asked);
            self.ask_for_slots(namespace, key, (2 * asked).max(FIRST))?;
            if asked > 0 {
                // A batch lets many in: they come in one go.
                self.fetch_line(namespace, key, holding)?;
            }
        }
    }

    fn fetch_line(&mut self, namespace: &Name, key: &str, holding: usize) -> Result<(), ServerError> {
        let Key { stored: Some((slots, _)), changed, .. } = self.places.of(namespace, key) else { return Ok(()) };
        let lines = slots.lines.iter().filter(|(limit, _)| holding < **limit as usize);
        let waiting = lines.flat_map(|(_, line)| line).map(|wait| wait.run);
        let mut runs: Vec<RunId> = waiting.filter(|run| !changed.contains(run)).collect();
        self.fetch(&mut runs)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use aiki_core::Priority;
    use aiki_core::run::head::ConcurrencyKey;
    use aiki_core::server_client::ClaimRuns;
    use aiki_runtime::{Entropy, SeededEntropy};

    use super::super::double::{self, Cost, Double};
    use super::super::{Lane, Planned};
    use super::*;
    use crate::operation::{Cancel, Claim, Operation};

    fn namespace() -> Name {
        Name::new("n")
    }

    /// A lane with runs of one key, of which a worker has asked for all.
    struct Crowd {
        lane: Lane,
        cost: Arc<Cost>,
        runs: Vec<RunId>,
    }

    impl Crowd {
        fn new(kinds: impl IntoIterator<Item = (u32, Priority)>) -> Self {
            let store = Double::new(|_| Ok(()));
            let cost = store.cost();
            let mut crowd = Self { lane: double::lane(store), cost, runs: Vec::new() };
            for (at, (limit, priority)) in kinds.into_iter().enumerate() {
                let mut create = double::create(&at.to_string());
                create.request.concurrency = Some(ConcurrencyKey { key: "k".into(), limit });
                create.request.priority = priority;
                let created = crowd.ask([create]).remove(0).id;
                crowd.runs.push(created);
            }
            let (worker, runs, lease) = (Name::new("w"), crowd.runs.clone(), Duration::from_secs(9));
            let request = ClaimRuns { worker, runs, lease };
            crowd.ask([Claim { namespace: namespace(), request, in_process: true }]);
            crowd.cost.take();
            crowd
        }

        /// Asks in one batch.
        fn ask<O: Operation>(&mut self, operations: impl IntoIterator<Item = O>) -> Vec<O::Answer> {
            let mut planned: Vec<_> = operations.into_iter().map(Planned::new).collect();
            let mut jobs: Vec<_> = planned.iter_mut().map(|planned| planned as &mut dyn super::super::Job).collect();
            self.lane.work(&mut jobs);
            planned.into_iter().map(|planned| planned.into_answer().unwrap()).collect()
        }

        fn cancel(&mut self, runs: &[RunId]) {
            self.ask(runs.iter().map(|run| Cancel { namespace: namespace(), run: *run, explanation: None }));
        }

        fn heads(&mut self) -> Vec<RunHead> {
            let rows = self.lane.storage().reads().load(&self.runs).unwrap();
            rows.into_iter().map(|row| row.unwrap().unwrap().head).collect()
        }

        fn those(&mut self, what: impl Fn(&RunHead) -> bool) -> Vec<RunId> {
            self.heads().iter().filter(|head| what(head)).map(|head| head.id).collect()
        }
    }

    fn is_let_in(head: &RunHead) -> bool {
        head.announce.is_some() && !head.held_back && head.lease.is_none()
    }

    #[test]
    fn an_end_costs_no_more_however_many_wait() {
        let cost = |waiting: usize| {
            let mut crowd = Crowd::new(vec![(1, Priority::Normal); 1 + waiting]);
            assert_eq!(crowd.those(|head| head.held_back).len(), waiting);
            let first = crowd.runs[0];
            crowd.cancel(&[first]);
            let cost = crowd.cost.take();
            assert_eq!(crowd.those(is_let_in), [crowd.runs[1]]);
            cost
        };
        let few = cost(10);
        assert_eq!(few, cost(2_000));
        // The line, and the run that is let in.
        assert_eq!(few, (2, FIRST));
    }

    #[test]
    fn many_ends_in_one_batch_ask_a_few_times_for_the_whole_line() {
        let mut crowd = Crowd::new(vec![(100, Priority::Normal); 300]);
        let working = crowd.runs[..100].to_vec();
        assert_eq!(crowd.those(holds_place), working);
        crowd.cancel(&working);
        let (calls, _) = crowd.cost.take();
        assert_eq!(crowd.those(is_let_in), crowd.runs[100..200]);
        assert!(calls < 20, "{calls} calls");
    }

    #[test]
    fn places_are_given_in_the_order_of_ready_runs_whatever_the_limits() {
        let entropy = SeededEntropy::new(7);
        let below = |limit: u64| entropy.next_u64() % limit;
        for round in 0..60 {
            let mut kinds = Vec::new();
            for _ in 0..40 {
                let priority = [Priority::High, Priority::Normal, Priority::Low][below(3) as usize];
                kinds.push((1 + below(5) as u32, priority));
            }
            let mut crowd = Crowd::new(kinds);
            let mut ended = crowd.those(holds_place);
            ended.retain(|_| below(3) > 0);
            // What was decided when all of a line was looked at.
            let heads = crowd.heads();
            let mut holding = heads.iter().filter(|head| holds_place(head)).count();
            let mut waiting: Vec<Wait> = heads.iter().filter_map(wait).collect();
            waiting.sort_unstable();
            let mut expected = BTreeSet::from_iter(crowd.those(is_let_in));
            let before = expected.len();
            for _ in &ended {
                holding -= 1;
                let mut taken = holding + expected.len() - before;
                waiting.retain(|wait| {
                    let fits = taken < wait.limit as usize;
                    taken += usize::from(fits);
                    expected.extend(fits.then_some(wait.run));
                    !fits
                });
            }
            crowd.cancel(&ended);
            assert_eq!(BTreeSet::from_iter(crowd.those(is_let_in)), expected, "round {round}");
        }
    }
}
