//! The procedures of the contract: what is asked and what is answered.
//!
//! Requests are read by [`Read`](crate::read::Read) with the contract's exact rules and written by serde; answers
//! are read and written by serde, so that the client reads a plain server with the same types. Payloads stay raw.
//!
//! | group | asked | answered |
//! |---|---|---|
//! | `workflowRun` | [`start`], [`run_transition`], [`run_request`] | [`run_record`], [`run_answer`] |
//! | `task` | [`task_request`] | [`task_answer`] |
//! | `schedule` | [`schedule`] | [`schedule`] |
//! | `workflow` | [`workflow`] | [`workflow`] |

mod request;

pub mod common;
pub mod run_answer;
pub mod run_record;
pub mod run_request;
pub mod run_transition;
pub mod run_waits;
pub mod schedule;
pub mod start;
pub mod task_answer;
pub mod task_request;
pub mod unknown;
pub mod workflow;
