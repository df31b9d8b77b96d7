//! From a request to what has to be stored, or to the reason why not. Every rule of the server is
//! here; a store only writes down what comes out.
//!
//! A plan works on the run's [head](super::RunHead) and appends to a list of history entries. When
//! it answers an error it has changed neither.

mod claim;
mod control;
mod create;
mod report;
mod timer;

pub use claim::{ClaimDecision, LeaseDecision, claim, is_offered, orphan, refresh, release};
pub use control::cancel;
pub use create::{CreateRun, ReferenceDecision, create, judge_reference};
pub use report::{ReportError, report};
pub use timer::{Due, due};
