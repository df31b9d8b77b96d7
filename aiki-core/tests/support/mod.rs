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
