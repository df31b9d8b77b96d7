//! Reproducible chance.

use aiki_runtime::{Entropy, SeededEntropy};

/// All that happens by chance in a simulation is drawn from one of these, in one order.
#[derive(Debug)]
pub(crate) struct Chance(SeededEntropy);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(SeededEntropy::new(seed))
    }

    pub(crate) fn next(&self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn within(&self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// Whether something happens that happens `per_mille` times in a thousand.
    pub(crate) fn happens(&self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    /// One of these.
    pub(crate) fn pick<'a, T>(&self, from: &'a [T]) -> Option<&'a T> {
        if from.is_empty() { None } else { from.get(self.below(from.len() as u64) as usize) }
    }
}
