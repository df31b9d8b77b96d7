//! The proof campaign of Aiki. Never published.
//!
//! | part | job |
//! |---|---|
//! | [`history`] | what handlers did, what callers were answered and which faults were injected, in order |
//! | [`end`] | what the server shows when all is over, through its public client |
//! | [`check`] | judges the invariants I1 to I17 from the two, without a look into our tables |
//! | [`fuzzed`] | what reads from outside, as functions of bytes: for `fuzz/` and for its corpus as tests |
//! | [`requests`] | readers of the inputs of all procedures |
//! | [`sim`] | server, workers, transport and store in one thread, in virtual time, with faults by a seed |
//!
//! `docs/reliability.md` tells what is promised and which test stands for what.

pub mod check;
pub mod end;
pub mod fuzzed;
pub mod history;
pub mod requests;
pub mod sim;
