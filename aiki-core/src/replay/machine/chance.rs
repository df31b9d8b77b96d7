//! Arithmetic of retries and of reproducible chance.

use std::time::Duration;

use crate::failure::{Failure, RetryHint};
use crate::retry::RetryStrategy;

/// The delay before the next attempt; `None` when there is none.
pub(super) fn next_delay(retry: &RetryStrategy, attempts: u64, failure: &Failure, chance: f64) -> Option<Duration> {
    let delay = retry.delay_after(attempts, chance)?;
    match failure.retry() {
        RetryHint::Never => None,
        RetryHint::ByStrategy => Some(delay),
        RetryHint::After(at_least) => Some(delay.max(at_least)),
    }
}

/// SplitMix64 over a seed and a counter: the same numbers in every pass, on every machine.
pub(super) fn mix(seed: u128, counter: u64) -> u64 {
    let mut z = (seed as u64) ^ ((seed >> 64) as u64).rotate_left(32);
    z = z.wrapping_add(counter.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A number in `[0, 1)`.
pub(super) fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1u64 << 53) as f64
}
