//! The laws of the replay machine, tried on random workflows, random schedules and random crashes, and
//! the cases that deserve a name. What the laws mean is said in `docs/replay.md`.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "../support/mod.rs"]
mod support;

mod children;
mod closing;
mod continuing;
mod divergence;
mod events;
mod laws;
mod limits;
mod order;
mod scale;
mod signals;
mod silence;
mod suspension;
