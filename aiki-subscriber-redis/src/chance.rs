//! Jitter. Nothing here is secret.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// A duration between nothing and this one.
pub(crate) fn up_to(longest: Duration) -> Duration {
    longest.mul_f64(fraction())
}

/// A duration within a quarter of this one, to both sides.
pub(crate) fn around(middle: Duration) -> Duration {
    middle.mul_f64(0.75 + fraction() / 2.0)
}

/// From 0 to just below 1. Every `RandomState` has keys of its own.
fn fraction() -> f64 {
    (RandomState::new().hash_one(0) >> 11) as f64 / (1_u64 << 53) as f64
}
