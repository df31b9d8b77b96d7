//! The context of a workflow.

use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::shared::{HistorySize, Shared};
use super::sleep::Sleep;
use super::wait::{EventWait, EventWithin};
use crate::definition::Event;
use crate::id::RunId;
use crate::name::{WorkflowKey, check_name};
use crate::payload::Payload;
use crate::time::Timestamp;
use crate::trace::TraceParent;

/// One run, as its workflow handler sees it. Everything durable goes through it.
///
/// A handler may run several times over: after a crash, a sleep or a retry it starts again from the
/// top, and every durable call that is already recorded returns what it returned before. So a handler
/// must ask only its `Run` for the time, for chance and for anything from outside, and do its work in
/// [tasks](crate::Task).
pub struct Run {
    pub(super) shared: Arc<Shared>,
}

impl Run {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The run's id.
    pub fn id(&self) -> RunId {
        self.shared.id
    }

    /// The workflow and version that this run executes.
    pub fn workflow(&self) -> &WorkflowKey {
        &self.shared.workflow
    }

    /// The attempt of the run, from 1.
    pub fn attempt(&self) -> u64 {
        self.shared.attempt
    }

    /// The reference id under which the run was started.
    pub fn reference_id(&self) -> Option<&str> {
        self.shared.reference_id.as_deref()
    }

    /// The trace from which the run was started: send it on as the header `traceparent` with calls to others. Its
    /// children inherit it.
    pub fn trace_parent(&self) -> Option<&TraceParent> {
        self.shared.trace.as_ref()
    }

    /// Sleeps durably: no worker is held meanwhile, and the sleep survives every crash.
    ///
    /// `name` shows while the run sleeps. Sleeps of one name are told apart by the order in which
    /// they are called. `duration` counts in whole milliseconds, rounded up.
    ///
    /// The sleep begins with the call; dropping the future ends it. It does not fit into
    /// `tokio::time::timeout` and the like: their timers are not durable. To wait for a task at most so
    /// long, `select` between the task and a sleep.
    ///
    /// # Panics
    /// When the name breaks the rules of [`check_name`](crate::name::check_name).
    #[track_caller]
    pub fn sleep(&self, name: &str, duration: Duration) -> Sleep<'_> {
        if let Err(error) = check_name(name) {
            panic!("this sleep cannot be named so: {error}");
        }
        Sleep::open(self, name, duration, Location::caller())
    }

    /// Waits for the next event of this kind that no other wait has taken. Events may come before
    /// anybody waits: they are kept, in order. No worker is held meanwhile.
    ///
    /// The wait begins with the call; dropping the future ends it. The workflow version has to declare
    /// the event. Data of another type fails the run.
    ///
    /// # Panics
    /// When the event's name breaks the rules of [`check_name`](crate::name::check_name).
    #[track_caller]
    pub fn event<T>(&self, event: &Event<T>) -> EventWait<'_, T> {
        check_event(event.name());
        EventWait::open(self, event, Location::caller())
    }

    /// Like [`event`](Self::event), at most for `timeout`, in whole milliseconds rounded up.
    ///
    /// # Panics
    /// Like [`event`](Self::event).
    #[track_caller]
    pub fn event_within<T>(&self, event: &Event<T>, timeout: Duration) -> EventWithin<'_, T> {
        check_event(event.name());
        EventWithin::open(self, event, Some(timeout), Location::caller())
    }

    /// Begins again: the handler starts from the top with `input`, as the same run, with the same
    /// reference id and the same waiting callers, but with an empty history. Events that nobody has
    /// taken go along; children go on, but are not this handler's any more; tasks that are under way
    /// are dropped. This is how a workflow lives longer than its history may be.
    ///
    /// The future never resolves, so it fits wherever a value is asked for.
    ///
    /// ```
    /// use aiki_core::{Failure, Run, Workflow};
    /// let count_down = Workflow::new("count-down").version("1.0.0", |run: Run, left: u64| async move {
    ///     if left > 0 {
    ///         return run.continue_as_new(left - 1).await;
    ///     }
    ///     Ok::<_, Failure>(())
    /// });
    /// # let _ = count_down;
    /// ```
    pub async fn continue_as_new<I: Serialize, T>(&self, input: I) -> T {
        self.shared.lock().machine.continue_as_new(Payload::encode(&input));
        std::future::pending().await
    }

    /// How long the run's history is, and how long it may become.
    pub fn history(&self) -> HistorySize {
        self.shared.history
    }

    /// When the run fails if it has not ended by then.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.shared.deadline
    }

    /// The time. The first pass asks the clock and records the answer; replay returns it again.
    pub fn now(&self) -> Timestamp {
        let now = self.shared.clock.now();
        self.shared.lock().machine.read_time(now)
    }

    /// A number in `[0, 1)` by chance: the n-th call of a run returns the same in every pass.
    /// Not for secrets: it follows from the run's id.
    pub fn random(&self) -> f64 {
        (self.random_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// 64 bits by chance, like [`random`](Self::random).
    pub fn random_u64(&self) -> u64 {
        self.shared.lock().machine.draw()
    }

    /// A version-4 UUID by chance, like [`random`](Self::random): the same in every pass.
    pub fn uuid(&self) -> String {
        let bits = (u128::from(self.random_u64()) << 64) | u128::from(self.random_u64());
        let bits = (bits & !(0xF << 76) & !(0b11 << 62)) | (0x4 << 76) | (0b10 << 62);
        let text = format!("{bits:032x}");
        format!("{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..])
    }
}

#[track_caller]
fn check_event(name: &str) {
    if let Err(error) = check_name(name) {
        panic!("this event cannot be named so: {error}");
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").field("id", &self.shared.id).field("workflow", &self.shared.workflow).finish()
    }
}
