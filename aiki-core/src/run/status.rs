//! The names of statuses and reasons, as on the wire.

use serde::{Deserialize, Serialize};

macro_rules! wire_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $text)] $variant,)+
        }

        impl $name {
            /// All values, in the order of the contract.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// The name on the wire.
            pub fn as_str(self) -> &'static str {
                match self {
                    $($name::$variant => $text,)+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

wire_enum! {
    /// Where a run stands.
    RunStatus {
        /// Waits for its time to be queued.
        Scheduled = "scheduled",
        /// Ready: waits for a worker.
        Queued = "queued",
        /// A worker owns it, or a parked task retry is its only business.
        Running = "running",
        /// An operator stopped it; it waits to be resumed.
        Paused = "paused",
        /// Waits for a durable sleep.
        Sleeping = "sleeping",
        /// Waits for an event.
        AwaitingEvent = "awaiting_event",
        /// Failed and waits for its next attempt.
        AwaitingRetry = "awaiting_retry",
        /// Waits for a child run.
        AwaitingChildWorkflow = "awaiting_child_workflow",
        /// Could not be worked on for too long; an operator decides.
        Stalled = "stalled",
        /// Ended by request.
        Cancelled = "cancelled",
        /// Ended with a result.
        Completed = "completed",
        /// Ended with an error.
        Failed = "failed",
    }
}

impl RunStatus {
    /// Whether a run in this status never changes again (but for a failed one that is retried by hand).
    pub fn is_terminal(self) -> bool {
        matches!(self, RunStatus::Cancelled | RunStatus::Completed | RunStatus::Failed)
    }
}

wire_enum! {
    /// Why a run is scheduled.
    ScheduledReason {
        /// It was created.
        New = "new",
        /// Its sleep was cut short.
        WakeupEarly = "wakeup_early",
        /// It was resumed after a pause.
        Resumption = "resumption",
        /// Its event arrived.
        Event = "event",
        /// Its child ended.
        ChildWorkflow = "child_workflow",
        /// An operator sent a stalled run back to work.
        Redelivery = "redelivery",
    }
}

wire_enum! {
    /// Why a run is queued.
    QueuedReason {
        /// It was created.
        New = "new",
        /// The run itself is tried again.
        Retry = "retry",
        /// A parked task is due for its next attempt.
        TaskRetry = "task_retry",
        /// Its sleep is over.
        Wakeup = "wakeup",
        /// Its sleep was cut short.
        WakeupEarly = "wakeup_early",
        /// It was resumed after a pause.
        Resumption = "resumption",
        /// Its event arrived.
        Event = "event",
        /// It waited long enough for an event.
        EventWaitTimeout = "event_wait_timeout",
        /// Its child ended.
        ChildWorkflow = "child_workflow",
        /// It waited long enough for a child.
        ChildWorkflowWaitTimeout = "child_workflow_wait_timeout",
        /// Its worker was lost or handed it back.
        Recovery = "recovery",
        /// An operator sent a stalled run back to work.
        Redelivery = "redelivery",
    }
}

impl From<ScheduledReason> for QueuedReason {
    fn from(reason: ScheduledReason) -> Self {
        match reason {
            ScheduledReason::New => QueuedReason::New,
            ScheduledReason::WakeupEarly => QueuedReason::WakeupEarly,
            ScheduledReason::Resumption => QueuedReason::Resumption,
            ScheduledReason::Event => QueuedReason::Event,
            ScheduledReason::ChildWorkflow => QueuedReason::ChildWorkflow,
            ScheduledReason::Redelivery => QueuedReason::Redelivery,
        }
    }
}

wire_enum! {
    /// Where a task stands.
    TaskStatus {
        /// An attempt is under way, or was when its worker was lost.
        Running = "running",
        /// Waits for its next attempt.
        AwaitingRetry = "awaiting_retry",
        /// Ended with a result.
        Completed = "completed",
        /// Ended with an error.
        Failed = "failed",
        /// Given up by the run: cancelled, or superseded by a retry of the run.
        Discarded = "discarded",
    }
}
