//! One pass over a run: the handler's future and its machine, driven without a runtime.

use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use super::machine::{Action, Close, MachineConfig, RunMachine};
use crate::cancel::CancellationToken;
use crate::context::{About, HistorySize, Run, Shared};
use crate::definition::{HandlerFuture, RegisteredWorkflow};
use crate::failure::Failure;
use crate::gate::TaskGate;
use crate::id::TaskId;
use crate::intercept::TaskInterceptor;
use crate::report::{Report, ReportReceipt};
use crate::run::record::Signal;
use crate::server_client::ClaimedRun;
use crate::time::{Clock, Timestamp};

/// What a pass needs next.
#[derive(Clone, Debug, PartialEq)]
pub enum PassStep {
    /// Poll again at once.
    Again,
    /// Send this report, and tell [`Pass::accepted`] or [`Pass::rejected`]. Go on polling meanwhile.
    Report(Report),
    /// The pass is over; the handler's future is dropped.
    Close(Close),
    /// Poll again when woken, or at this time.
    Wait {
        /// When the pass wants to be polled even if nothing woke it.
        until: Option<Timestamp>,
        /// The handler waits for something that is not durable. When it stays so, it deserves a
        /// warning: nothing on record will ever move it.
        stuck: bool,
    },
}

/// One pass over a claimed run.
///
/// A host polls it until it closes:
///
/// 1. `poll` it inside the task that owns it; hide logs while [`is_silent`](Self::is_silent).
/// 2. On `Report`, send it. Keep polling: bodies of tasks go on running.
/// 3. On `Wait`, wait for the waker, the time, the answer to the report, or the loss of the claim.
pub struct Pass {
    shared: Arc<Shared>,
    future: Option<HandlerFuture>,
    wake: Arc<WakeFlag>,
    waker: Waker,
}

impl Pass {
    /// Begins a pass: nothing of the handler has run yet.
    pub fn new(claim: ClaimedRun, workflow: &RegisteredWorkflow, clock: Arc<dyn Clock>, config: MachineConfig) -> Self {
        Self::gated(claim, workflow, clock, config, None)
    }

    /// The same on a worker that limits how its tasks run.
    pub fn gated(
        claim: ClaimedRun,
        workflow: &RegisteredWorkflow,
        clock: Arc<dyn Clock>,
        config: MachineConfig,
        gate: Option<Arc<dyn TaskGate>>,
    ) -> Self {
        Self::intercepted(claim, workflow, clock, config, gate, None)
    }

    /// The same with somebody between the calls of tasks and their bodies.
    pub fn intercepted(
        claim: ClaimedRun,
        workflow: &RegisteredWorkflow,
        clock: Arc<dyn Clock>,
        config: MachineConfig,
        gate: Option<Arc<dyn TaskGate>>,
        interceptor: Option<Arc<dyn TaskInterceptor>>,
    ) -> Self {
        let ClaimedRun { mut record, epoch, history_limit, .. } = claim;
        let input = record.input.take();
        let about = About {
            id: record.id,
            workflow: record.workflow.clone(),
            attempt: record.attempts,
            reference_id: record.reference_id.clone(),
            trace: record.trace.clone(),
            deadline: record.deadline,
            gate,
            interceptor,
            history: HistorySize { entries: record.history_len, limit: history_limit },
            events: workflow.events().clone(),
        };
        let machine = RunMachine::new(record, epoch, workflow.retry(), config);
        let shared = Arc::new(Shared::new(about, clock, machine));
        let run = Run::new(shared.clone());
        // The handler itself may be a closure that panics before it returns its future.
        let future = match catch_unwind(AssertUnwindSafe(|| workflow.call(run, input))) {
            Ok(future) => future,
            Err(panic) => {
                let failure = Failure::from_object(crate::context::panicked(panic.as_ref()));
                Box::pin(std::future::ready(Err(failure)))
            }
        };
        let wake = Arc::new(WakeFlag::default());
        Self { shared, future: Some(future), waker: Waker::from(wake.clone()), wake }
    }

    /// Whether the next poll of the handler repeats what an earlier pass did.
    pub fn is_silent(&self) -> bool {
        self.shared.lock().machine.is_silent()
    }

    /// Polls the handler at most once and says what is next. Never blocks.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> PassStep {
        self.wake.register(cx.waker());
        let now = self.shared.clock.now();
        self.shared.lock().machine.handle_timeout(now);
        self.shared.wake_steps();
        if self.wake.take() {
            self.poll_handler();
        }
        self.settle();
        let mut state = self.shared.lock();
        let action = state.machine.poll_action();
        if !state.machine.is_open() {
            drop(state);
            // Dropping user code under the lock could come back to it.
            self.drop_handler();
            state = self.shared.lock();
        }
        match action {
            Some(Action::Report(report)) => PassStep::Report(report),
            Some(Action::Close(close)) => PassStep::Close(close),
            None if self.wake.is_set() => PassStep::Again,
            None => PassStep::Wait { until: state.machine.poll_timeout(), stuck: state.machine.is_stuck() },
        }
    }

    /// Lets the machine decide what follows, once the handler has come to rest. A step that moves
    /// while nobody waits on it wakes nobody: then the next one is moved.
    fn settle(&mut self) {
        while self.future.is_some() && (!self.wake.is_set() || self.shared.lock().machine.is_restless()) {
            let now = self.shared.clock.now();
            let moved = self.shared.lock().machine.settle_poll(now);
            self.shared.wake_steps();
            if !moved {
                break;
            }
        }
    }

    fn poll_handler(&mut self) {
        let Some(future) = &mut self.future else { return };
        self.shared.lock().machine.begin_poll();
        let mut cx = Context::from_waker(&self.waker);
        let result = match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut cx))) {
            Ok(Poll::Pending) => return,
            Ok(Poll::Ready(result)) => result,
            Err(panic) => Err(Failure::from_object(crate::context::panicked(panic.as_ref()))),
        };
        self.future = None;
        self.shared.lock().machine.finish_run(result);
    }

    /// Whether the body of a task is under way.
    pub fn executes(&self) -> bool {
        self.shared.lock().machine.executes()
    }

    /// The report under way was written. Poll the pass afterwards: nothing else wakes its host.
    pub fn accepted(&mut self, receipt: &ReportReceipt) {
        self.shared.lock().machine.accepted(receipt);
        // The host polls next anyway and registers itself again: waking it would cost it a poll.
        self.wake.forget_outer();
        self.shared.wake_steps();
    }

    /// Further signals have reached the run, behind the `after` that it had had before. Poll the pass
    /// afterwards.
    pub fn deliver(&mut self, after: u32, signals: Vec<Signal>) {
        self.shared.lock().machine.deliver(after, signals);
    }

    /// How many signals of the run the pass knows of.
    pub fn known_signals(&self) -> u32 {
        self.shared.lock().machine.known_signals()
    }

    /// Whether a signal could move the handler while the run stays with its worker.
    pub fn awaits_signals(&self) -> bool {
        self.shared.lock().machine.awaits_signals()
    }

    /// The claim is gone: bodies are told, the handler's future is dropped, nothing more comes out.
    pub fn rejected(&mut self) {
        self.shared.cancellation.cancel();
        self.shared.lock().machine.rejected();
        self.drop_handler();
    }

    /// Fails the run for good with this error.
    pub fn fail(&mut self, failure: Failure) {
        self.shared.lock().machine.fail(failure.into_object());
        self.drop_handler();
    }

    /// What is decided stands: a panic of what the handler held, when that is dropped, changes nothing about it.
    fn drop_handler(&mut self) {
        let future = self.future.take();
        // The panic hook has told it.
        drop(catch_unwind(AssertUnwindSafe(|| drop(future))));
    }

    /// The token that the bodies of this pass's tasks are given.
    pub fn cancellation(&self) -> &CancellationToken {
        &self.shared.cancellation
    }

    /// How long the run's history is, and how long it may become.
    pub fn history(&self) -> HistorySize {
        self.shared.history
    }

    /// The recorded tasks, by id, and children, by ordinal, of the present attempt that the handler has not
    /// asked for.
    pub fn not_asked_for(&self) -> (Vec<TaskId>, Vec<u32>) {
        self.shared.lock().machine.not_asked_for()
    }

    /// Where the handler made its last durable call.
    pub fn last_call(&self) -> Option<&'static Location<'static>> {
        self.shared.lock().machine.last_call()
    }
}

impl std::fmt::Debug for Pass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pass").field("run", &self.shared.id).finish_non_exhaustive()
    }
}

/// Knows whether the handler was woken since it was last polled, and passes wake-ups on.
struct WakeFlag {
    woken: AtomicBool,
    outer: Mutex<Option<Waker>>,
}

impl Default for WakeFlag {
    /// A handler that was never polled counts as woken.
    fn default() -> Self {
        Self { woken: AtomicBool::new(true), outer: Mutex::new(None) }
    }
}

impl WakeFlag {
    fn register(&self, waker: &Waker) {
        let mut outer = self.outer.lock().unwrap_or_else(PoisonError::into_inner);
        match &*outer {
            Some(known) if known.will_wake(waker) => {}
            _ => *outer = Some(waker.clone()),
        }
    }

    fn forget_outer(&self) {
        *self.outer.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn take(&self) -> bool {
        self.woken.swap(false, Ordering::AcqRel)
    }

    fn is_set(&self) -> bool {
        self.woken.load(Ordering::Acquire)
    }

    fn wake_outer(&self) {
        let outer = self.outer.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(outer) = outer {
            outer.wake();
        }
    }
}

impl Wake for WakeFlag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            self.wake_outer();
        }
    }
}
