//! A server, a host and workflows to try the replay machine with: no runtime, no threads, no real time.
#![allow(dead_code, unused_imports, reason = "every test binary uses its own part of the support")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

pub(crate) mod chance;
pub(crate) mod clock;
pub(crate) mod hand;
pub(crate) mod host;
pub(crate) mod program;
pub(crate) mod server;
pub(crate) mod world;

pub(crate) use chance::Chance;
pub(crate) use clock::ManualClock;
pub(crate) use hand::Hand;
pub(crate) use host::{Driver, Pace, Sim};
pub(crate) use program::{Call, EVENTS, Limit, Node, Patience, Program};
pub(crate) use server::{Outside, Server};
pub(crate) use world::{World, gated};

/// How many cases a property is tried on: `count`, or as many times more as `LAWS_TIMES` says, for a
/// long night.
pub(crate) fn cases(count: u32) -> proptest::test_runner::Config {
    let times = std::env::var("LAWS_TIMES").ok().and_then(|times| times.parse().ok()).unwrap_or(1);
    proptest::test_runner::Config::with_cases(count * times)
}
