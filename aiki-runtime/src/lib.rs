//! The one place of Aiki that asks the world: what time it is, and for chance.
//!
//! Everything else takes a [`Clock`](aiki_core::Clock) and an [`Entropy`] as arguments. [`Outage`] says when whoever
//! talks to others tells that they do not answer.
//!
//! ```
//! use aiki_core::Clock;
//! use aiki_runtime::{Entropy, SeededEntropy, SystemClock};
//!
//! let before = SystemClock.now();
//! assert!(SystemClock.now() >= before);
//! // Tests use chance that can be repeated, and `VirtualClock` under tokio's paused time.
//! assert_eq!(SeededEntropy::new(7).next_u64(), SeededEntropy::new(7).next_u64());
//! ```

mod clock;
mod entropy;
mod outage;

pub use clock::{SystemClock, VirtualClock};
pub use entropy::{Entropy, SeededEntropy, SystemEntropy};
pub use outage::Outage;
