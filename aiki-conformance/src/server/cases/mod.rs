//! The cases, grouped by what they are about. Each takes a fresh server and panics when it misbehaves.
#![allow(clippy::unwrap_used, reason = "the cases are tests")]
#![allow(missing_docs, reason = "a case says in its name what it is about")]

pub mod children;
pub mod claim;
pub mod control;
pub mod create;
pub mod events;
pub mod limits;
pub mod listing;
pub mod news;
pub mod reading;
pub mod report;
pub mod schedules;
pub mod timers;
