//! A run on the server's side: its states, the legal moves between them, its history, and the
//! plans that turn a request into what has to be stored.

pub mod export;
pub mod head;
pub mod history;
pub mod options;
pub mod plan;
pub mod record;
pub mod state;
pub mod status;
pub mod transition;
pub mod wait;

pub use head::{Lease, Parked, ParkedStep, RunHead, TaskCounts};
pub use history::{Entry, HistoryEntry, ReceivedEvent};
pub(crate) use options::shown_reference;
pub use options::{ConflictPolicy, HIDDEN_REFERENCE, Reference, RunOptions};
pub use record::{RunRecord, SleepRecord, SleepState, TaskRecord};
pub use state::{FailureCause, RunState, TaskState};
pub use status::{QueuedReason, RunStatus, ScheduledReason, TaskStatus};
pub use wait::{ChildRecord, Ordinals, WaitOn, WaitRecord, WaitState};
