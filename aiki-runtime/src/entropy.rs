//! Chance.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// A source of chance. Shared by reference between threads.
pub trait Entropy: fmt::Debug + Send + Sync + 'static {
    /// The next 64 bits.
    fn next_u64(&self) -> u64;
}

/// The operating system's randomness.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn next_u64(&self) -> u64 {
        // Without randomness from the system the time must do: ids stay unique because their source
        // only ever ascends.
        getrandom::u64().unwrap_or_else(|_| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            split_mix(now.as_nanos() as u64)
        })
    }
}

/// A reproducible sequence (SplitMix64): tests print the seed.
#[derive(Debug)]
pub struct SeededEntropy {
    state: AtomicU64,
}

impl SeededEntropy {
    /// The sequence of this seed.
    pub fn new(seed: u64) -> Self {
        Self { state: AtomicU64::new(seed) }
    }
}

impl Entropy for SeededEntropy {
    fn next_u64(&self) -> u64 {
        split_mix(self.state.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed))
    }
}

fn split_mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_sequence_again() {
        let (a, b) = (SeededEntropy::new(7), SeededEntropy::new(7));
        let drawn: Vec<u64> = (0..4).map(|_| a.next_u64()).collect();
        assert_eq!(drawn, (0..4).map(|_| b.next_u64()).collect::<Vec<_>>());
        assert!(drawn.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
