//! The test kit for users of Aiki: server, queue and workers in one process, in virtual time.
//!
//! | to | use |
//! |---|---|
//! | run workflows in a unit test, thirty days in milliseconds | [`TestEnv`] |
//! | replace the bodies of tasks, and see how they were called | [`TestEnv::mock`], [`TestEnv::assert_called_once_with`] |
//! | let workers die at every point where it could matter | [`crash_sweep`], [`CrashSweep`] |
//! | replay a recorded run against the code of today | [`replay`] |
//! | let deliveries go wrong, by chance that can be repeated | [`Faults`] |
//!
//! Programs use it as `aiki::testing`, with the feature `testing` of the crate `aiki` among their
//! `dev-dependencies`.

mod assertions;
mod broker;
mod builder;
mod clock;
mod crash;
mod diff;
mod env;
mod faults;
mod journal;
mod link;
mod mock;
mod replay;
mod seed;
mod stage;
mod sweep;
mod time;
mod waits;
mod workflows;

pub use builder::TestEnvBuilder;
pub use crash::CrashPoint;
pub use env::TestEnv;
pub use faults::Faults;
pub use journal::TaskRun;
pub use mock::Mock;
pub use replay::{Divergence, Replayed, replay};
pub use sweep::{CrashSweep, SweepFailure, SweepReport, SweptPoint, crash_sweep};
pub use time::EnvError;
pub use workflows::Workflows;
