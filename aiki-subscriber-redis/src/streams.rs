//! The streams of one subscription.

use std::collections::HashMap;

use aiki_core::subscriber::Receipt;
use aiki_core::{Delivery, Name, RunId, Subscription, WorkflowKey};

use crate::key::{self, LANES};

/// One stream.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub(crate) key: String,
    pub(crate) workflow: WorkflowKey,
    pub(crate) dead_letters: String,
}

/// All streams that a worker reads: lane by lane, the lane that goes first first, as many in each.
#[derive(Clone, Debug)]
pub(crate) struct Streams {
    all: Vec<Stream>,
    by_key: HashMap<String, usize>,
}

/// Entries of one stream.
pub(crate) struct Batch {
    pub(crate) at: usize,
    pub(crate) ids: Vec<String>,
    /// Where each of them was in the question.
    pub(crate) places: Vec<usize>,
}

impl Streams {
    pub(crate) fn of(subscription: &Subscription) -> Self {
        let pools: Vec<Option<&Name>> = match &subscription.pools[..] {
            [] => vec![None],
            pools => pools.iter().map(Some).collect(),
        };
        let mut all = Vec::new();
        let mut by_key = HashMap::new();
        for lane in LANES {
            for pool in &pools {
                for workflow in &subscription.workflows {
                    let key = key::stream(&subscription.namespace, *pool, workflow, lane);
                    if by_key.contains_key(&key) {
                        continue;
                    }
                    by_key.insert(key.clone(), all.len());
                    let dead_letters = key::dead_letters(&subscription.namespace, *pool);
                    all.push(Stream { key, workflow: workflow.clone(), dead_letters });
                }
            }
        }
        Self { all, by_key }
    }

    pub(crate) fn all(&self) -> &[Stream] {
        &self.all
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        self.all.iter().map(|stream| stream.key.clone()).collect()
    }

    /// Where a stream is, by its key.
    pub(crate) fn place(&self, key: &str) -> Option<usize> {
        self.by_key.get(key).copied()
    }

    /// Whether a receipt is of one of these streams.
    pub(crate) fn knows(&self, receipt: &Receipt) -> bool {
        receipt.0.split_once(' ').is_some_and(|(_, key)| self.by_key.contains_key(key))
    }

    /// The receipt of an entry: its id and its stream.
    pub(crate) fn receipt(&self, at: usize, id: &str) -> Receipt {
        Receipt(format!("{id} {}", self.all[at].key))
    }

    pub(crate) fn delivery(&self, at: usize, id: &str, run: RunId) -> Delivery {
        Delivery { run, workflow: self.all[at].workflow.clone(), receipt: self.receipt(at, id), claimed: None }
    }

    /// Sorts receipts by stream, and those of a stream by their ids. Those that this subscription cannot have given out
    /// are left out.
    pub(crate) fn batches(&self, receipts: &[Receipt]) -> Vec<Batch> {
        let mut found: Vec<(usize, (u64, u64), usize, &str)> = Vec::with_capacity(receipts.len());
        for (place, receipt) in receipts.iter().enumerate() {
            let Some((id, key)) = receipt.0.split_once(' ') else { continue };
            if let (Some(at), Some(order)) = (self.place(key), entry_id(id)) {
                found.push((at, order, place, id));
            }
        }
        found.sort_unstable();
        let batches = found.chunk_by(|one, other| one.0 == other.0);
        let batch = |entries: &[(usize, (u64, u64), usize, &str)]| Batch {
            at: entries[0].0,
            ids: entries.iter().map(|(.., id)| (*id).to_owned()).collect(),
            places: entries.iter().map(|(_, _, place, _)| *place).collect(),
        };
        batches.map(batch).collect()
    }
}

/// `<milliseconds>-<number>`.
fn entry_id(text: &str) -> Option<(u64, u64)> {
    let (time, number) = text.split_once('-')?;
    Some((time.parse().ok()?, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streams() -> Streams {
        Streams::of(&Subscription {
            worker: Name::new("worker"),
            namespace: Name::new("acme"),
            workflows: vec![WorkflowKey::user("a", "1"), WorkflowKey::user("b", "1"), WorkflowKey::user("a", "1")],
            pools: vec![Name::new("gpu"), Name::new("arm")],
        })
    }

    #[test]
    fn lanes_are_of_one_width_and_nothing_is_named_twice() {
        let streams = streams();
        assert_eq!(streams.all().len(), 12);
        assert!(streams.all()[..4].iter().all(|stream| stream.key.ends_with(":high")));
        assert!(streams.all()[8..].iter().all(|stream| stream.key.ends_with(":low")));
    }

    #[test]
    fn foreign_receipts_are_left_out_and_the_others_are_in_order_and_know_their_places() {
        let streams = streams();
        let receipts = [
            streams.receipt(3, "10-0"),
            Receipt("1700000000000-0".into()),
            Receipt("1-0 elsewhere".into()),
            Receipt(format!("evil {}", streams.all()[3].key)),
            streams.receipt(0, "2-0"),
            streams.receipt(3, "3-1"),
        ];
        let found: Vec<_> =
            streams.batches(&receipts).into_iter().map(|batch| (batch.at, batch.ids, batch.places)).collect();
        assert_eq!(found, [(0, vec!["2-0".to_owned()], vec![4]), (3, vec!["3-1".into(), "10-0".into()], vec![5, 0]),]);
    }
}
