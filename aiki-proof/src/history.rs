//! What happened, in the order in which it happened.
//!
//! One thread or one process writes it, so the order is the truth: what stands later was caused by or is
//! independent of what stands earlier.

use std::sync::{Mutex, MutexGuard, PoisonError};

use aiki_core::{Name, Report, RunId, TaskId, Transition};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Happened {
    /// When, in milliseconds of true time since the history began.
    pub at: u64,
    /// What.
    pub what: What,
}

/// How an attempt of a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptEnd {
    /// The body returned a result.
    Returned,
    /// The body returned an error.
    Failed,
    /// The body panicked.
    Panicked,
    /// The body was dropped: its claim was lost, its worker stopped, or its handler stopped waiting.
    Dropped,
}

/// What a report that the server accepted has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Tasks that ended, and whether well.
    pub ended: Vec<(TaskId, bool)>,
    /// Whether the claim ended with it.
    pub closes: bool,
}

impl Written {
    /// The facts of a report.
    pub fn of(report: &Report) -> Self {
        let ended = report.transitions.iter().filter_map(|transition| match transition {
            Transition::TaskCompleted { id, .. } => Some((*id, true)),
            Transition::TaskFailed { id, .. } => Some((*id, false)),
            _ => None,
        });
        Self { ended: ended.collect(), closes: report.transitions.iter().any(Transition::ends_claim) }
    }
}

/// A fault that was injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// A worker was killed between two steps.
    WorkerKilled,
    /// A worker was killed after the effect of a task and before its record.
    KilledAfterEffect,
    /// A worker was killed with a request on its way that the server never saw.
    KilledBeforeCall,
    /// A worker was killed when the server had done what it asked for, before it heard so.
    KilledAfterCall,
    /// A worker stood still for longer than its lease, and went on.
    WorkerPaused,
    /// A worker stood still for less than its lease, and went on.
    WorkerHiccup,
    /// A request was lost before the server saw it.
    RequestLost,
    /// The answer to a request was lost.
    ReplyLost,
    /// The server was killed and started again over what it had committed.
    ServerRestarted,
    /// The server's clock was set forward.
    ServerClockForward,
    /// The server's clock was set back.
    ServerClockBack,
    /// A worker lives by a clock that is an hour off.
    WorkerClockSkewed,
    /// A delivery came twice.
    DeliveryDuplicated,
    /// A delivery came late.
    DeliveryDelayed,
    /// A delivery was lost on its way: it stays held.
    DeliveryLost,
    /// An announcement was lost.
    AnnouncementLost,
    /// The transport lost everything in it.
    TransportWiped,
    /// The transport was away.
    TransportDown,
    /// An acknowledgement was lost.
    AckLost,
}

impl Fault {
    /// All kinds.
    pub const ALL: [Fault; 19] = [
        Fault::WorkerKilled,
        Fault::KilledAfterEffect,
        Fault::KilledBeforeCall,
        Fault::KilledAfterCall,
        Fault::WorkerPaused,
        Fault::WorkerHiccup,
        Fault::RequestLost,
        Fault::ReplyLost,
        Fault::ServerRestarted,
        Fault::ServerClockForward,
        Fault::ServerClockBack,
        Fault::WorkerClockSkewed,
        Fault::DeliveryDuplicated,
        Fault::DeliveryDelayed,
        Fault::DeliveryLost,
        Fault::AnnouncementLost,
        Fault::TransportWiped,
        Fault::TransportDown,
        Fault::AckLost,
    ];
}

/// What can happen. Answers are noted where the server gives them, also when they are lost on their way.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "each variant says what its fields are")]
pub enum What {
    /// A caller was answered that its run is there, under its own key if it gave one.
    Created { run: RunId, key: Option<String> },
    /// A caller was answered that the run is cancelled.
    Cancelled { run: RunId },
    /// A caller interfered: it paused the run, woke it, sent it back to work, or gave a task its result.
    Intervened { run: RunId },
    /// A worker was granted the run.
    Granted { run: RunId, epoch: u64, worker: Name },
    /// A worker was told that the run needs no delivery.
    Done { run: RunId, worker: Name },
    /// A worker sends a report: all that its handler has decided until now is in it or in an earlier one.
    Sent { run: RunId, epoch: u64, seq: u64, worker: Name },
    /// A report was accepted.
    Reported { run: RunId, epoch: u64, seq: u64, worker: Name, written: Written },
    /// A report was refused: the claim is gone.
    Refused { run: RunId, epoch: u64, worker: Name },
    /// A heartbeat was answered with the loss of the claim.
    Lost { run: RunId, epoch: u64, worker: Name },
    /// A worker gave the run back.
    Released { run: RunId, epoch: u64, worker: Name },
    /// The run was announced.
    Published { run: RunId },
    /// A worker received the run under this receipt.
    Delivered { run: RunId, worker: Name, receipt: String },
    /// The transport settled a delivery.
    Acked { run: RunId, worker: Name, receipt: String },
    /// The body of a task began.
    Began { task: TaskId, attempt: u64, worker: Name },
    /// The body of a task had its effect outside.
    Effect { task: TaskId, attempt: u64, worker: Name },
    /// The body of a task ended.
    Ended { task: TaskId, attempt: u64, worker: Name, how: AttemptEnd },
    /// A handler was given this value at this place of its code. `epoch` is that of the latest claim on the
    /// run when the handler's pass began, `life` counts how often the run began anew.
    /// It holds once a report that was sent afterwards is accepted: what a handler does with a value travels
    /// together with the value.
    Decided { run: RunId, worker: Name, epoch: u64, life: String, place: String, value: String },
    /// A worker's `stop()` returned.
    Stopped { worker: Name },
    /// A fault was injected, into this worker if it has a place.
    Fault { fault: Fault, worker: Option<Name> },
}

/// A history that is being written.
#[derive(Debug, Default)]
pub struct Ledger {
    happened: Mutex<Vec<Happened>>,
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, Vec<Happened>> {
        self.happened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down what happened now.
    pub fn note(&self, at: u64, what: What) {
        self.lock().push(Happened { at, what });
    }

    /// The history so far.
    pub fn history(&self) -> Vec<Happened> {
        self.lock().clone()
    }

    /// How much has happened so far.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether nothing has happened yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
