//! The procedures of our own: batches, long polls and claims with epochs, under `/api/native/`.
//!
//! They are specified in `docs/wire-protocol.md`. A client asks with [`Negotiate`] whether the server has
//! them; one of the plain contract answers 404.

mod claims;
mod failure;
mod listing;
mod negotiate;
mod outcome;
mod run;
mod runs;
mod schedules;
mod workers;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use claims::{ClaimAnswer, ClaimReadyRuns, ClaimRuns, Claimed, RefreshRuns, ReleaseRuns, Reports};
pub use failure::{refusal, refused};
pub use listing::{CountRuns, ExportRun, ExportedRun, ListRuns, ListWorkflowVersions, ListWorkflows, RunStats};
pub use negotiate::{Negotiate, Negotiated};
pub use outcome::Outcome;
pub use run::{RunData, RunDataError};
pub use runs::{
    AwaitRuns, Awaited, CancelRun, CancelRuns, CommandRun, CreateRuns, GetRun, GetRunByReference, GetSignals,
    ListChildRuns, NewRun, OneEvent, SendEvents, SetTaskResult, StartAndWait, StartedAndWaited, TaskResult,
};
pub use schedules::{
    ActivateScheduleCall, GetSchedule, GetScheduleByReference, ListSchedules, ScheduleData, ScheduleList,
    SetScheduleStatus,
};
pub use workers::{AnnounceWorker, AwaitNews, ListWorkers};

/// The version of these procedures.
pub const VERSION: u32 = 1;
/// At most so many items travel in one request.
pub const MAX_ITEMS: usize = 1_000;
/// A server answers a long poll after this time at the latest.
pub const MAX_WAIT: std::time::Duration = std::time::Duration::from_secs(25);
/// The input of a procedure.
pub trait Call: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The procedure in the path: `group/name`.
    const PROCEDURE: &'static str;
    /// What it answers.
    type Answer: Serialize + DeserializeOwned + Send + 'static;
}

/// Says which procedure an input belongs to.
macro_rules! call {
    ($input:ty, $name:literal -> $answer:ty) => {
        impl crate::native::Call for $input {
            const PROCEDURE: &'static str = concat!("native/", $name);
            type Answer = $answer;
        }
    };
}
use call;
