//! Choosing what a subscriber gets.

use std::collections::VecDeque;

use aiki_core::Delivery;
use tokio::time::Instant;

use super::entry::{Hold, Place, receipt};
use super::lane::LANES;
use super::{Broker, ListenerId};

impl Broker {
    /// Takes at most `limit` runs for this listener: one from each of its streams in turn, beginning
    /// after the stream that was served last, the higher priorities first within [`BURST`](super::BURST).
    pub(crate) fn take(&mut self, id: ListenerId, limit: usize, now: Instant) -> Vec<Delivery> {
        self.collect_due(now);
        let depth = self.depth();
        let Self { listeners, streams, runs, held, last_number, .. } = self;
        let Some(listener) = listeners.get_mut(&id) else { return Vec::new() };
        if depth == 0 {
            return Vec::new();
        }

        let mut ready: [VecDeque<usize>; LANES] = std::array::from_fn(|_| VecDeque::new());
        let count = listener.streams.len();
        for (lane, ready) in ready.iter_mut().enumerate() {
            let from = listener.cursors[lane];
            let round = (from..count).chain(0..from);
            ready.extend(round.filter(|at| !streams[listener.streams[*at]].lanes[lane].is_empty()));
        }

        let mut taken = Vec::with_capacity(limit.min(depth));
        while taken.len() < limit {
            let waiting = std::array::from_fn(|lane| !ready[lane].is_empty());
            let Some(lane) = listener.turns.next(waiting) else { break };
            let Some(at) = ready[lane].pop_front() else { break };
            let stream = &mut streams[listener.streams[at]];
            let Some(run) = stream.lanes[lane].pop_front() else { continue };
            listener.cursors[lane] = (at + 1) % count;
            if !stream.lanes[lane].is_empty() {
                ready[lane].push_back(at);
            }
            let Some(entry) = runs.get_mut(&run) else { continue };
            *last_number += 1;
            let number = *last_number;
            entry.place = Place::Held(Hold { by: id, delivery: number, turn: number, renewed: now });
            held.insert(number, run);
            taken.push(Delivery {
                run,
                workflow: stream.key.workflow.clone(),
                receipt: receipt(run, number),
                claimed: None,
            });
        }
        taken
    }
}
