//! Real processes and real stores. Never published.
//!
//! The programs in `src/bin` are what the tests start, kill and start again; this library is what
//! both share.

pub mod burdens;
pub mod campaign;
pub mod chain;
pub mod evidence;
pub mod exchange;
pub mod ledger;
pub mod matrix;
pub mod pipeline;
pub mod program;
pub mod redis;
pub mod rig;
pub mod set_clock;
pub mod usage;
pub mod worker_process;
