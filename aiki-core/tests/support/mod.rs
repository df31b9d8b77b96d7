//! A server, a host and workflows to try the replay machine with: no runtime, no threads, no real time.
#![allow(dead_code, reason = "every test binary uses its own part of the support")]

pub mod chance;
pub mod clock;
pub mod host;
pub mod program;
pub mod server;
pub mod world;

pub use chance::Chance;
pub use clock::ManualClock;
pub use host::{Driver, Pace, Sim};
pub use program::{Call, Node, Patience, Program};
pub use server::Server;
pub use world::World;

/// How many cases a property is tried on: `count`, or as many times more as `LAWS_TIMES` says, for a
/// long night.
pub fn cases(count: u32) -> proptest::test_runner::Config {
    let times = std::env::var("LAWS_TIMES").ok().and_then(|times| times.parse().ok()).unwrap_or(1);
    proptest::test_runner::Config::with_cases(count * times)
}
