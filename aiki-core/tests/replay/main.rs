//! The laws of the replay machine, each tried on random workflows, random schedules and random crashes.
//! What they mean is said in `docs/replay.md`.

#[path = "../support/mod.rs"]
mod support;

mod laws;
