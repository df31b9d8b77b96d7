//! From a request to what has to be stored, or to the reason why not. Every rule of the server is
//! here; a store only writes down what comes out.
//!
//! A plan works on the run's [head](super::RunHead) and appends to a list of history entries. When
//! it answers an error it has changed neither.

mod child;
mod claim;
mod control;
mod create;
pub mod plain;
mod report;
mod retire;
mod signal;
mod timer;

pub use child::{
    ChildDecision, MAX_DEPTH, MAX_LISTENERS, adopt, child_request, crowded, is_crowded, judge_depth, listen, own_child,
};
pub use claim::{ClaimDecision, LeaseDecision, POISON_LIMIT, claim, is_offered, orphan, refresh, release, take_back};
pub use control::{RunCommand, SetTaskError, TaskTarget, cancel, command, hold_back, let_in, set_task_result};
pub use create::{CreateRun, Deadline, ReferenceDecision, create, judge_reference};
pub use report::{HISTORY_LIMIT_EXCEEDED, ReportContext, ReportError, report};
pub use retire::{is_past, kept_by};
pub use signal::{EventMessage, EventRefusal, child_ended, receive_event};
pub use timer::{DEADLINE_EXCEEDED, Due, due};
