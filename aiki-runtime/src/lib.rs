//! The one place of Aiki that asks the world: what time it is, and for chance.
//!
//! Everything else takes a [`Clock`](aiki_core::Clock) and an [`Entropy`] as arguments.

mod clock;
mod entropy;

pub use clock::{SystemClock, VirtualClock};
pub use entropy::{Entropy, SeededEntropy, SystemEntropy};
