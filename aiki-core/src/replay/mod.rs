//! The replay machine: a plain struct that decides what a workflow's durable calls mean.
//!
//! It has two sides. The user's side opens steps and polls them; the host's side takes reports out,
//! puts answers in and tells the time. It does no input or output of its own, so every law in
//! `docs/replay.md` is a property test. [`Pass`] joins a machine with the handler's future and is
//! what a worker drives.

mod attempt;
mod divergence;
mod draft;
mod inbox;
mod machine;
mod pass;
mod recorded;
mod step;

pub use attempt::{TASK_TIMED_OUT, TimeLimit};
pub use machine::{Action, Close, MachineConfig, RunMachine};
pub use pass::{Pass, PassStep};
pub use step::{ChildCall, StepId, StepOutcome, StepPoll, TaskCall, TaskLimits, WaitCall, WaitTarget};
