//! What the futures of a run's steps share with the pass that polls them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use crate::cancel::CancellationToken;
use crate::gate::TaskGate;
use crate::id::RunId;
use crate::intercept::TaskInterceptor;
use crate::name::WorkflowKey;
use crate::replay::{RunMachine, StepId};
use crate::time::{Clock, Timestamp};
use crate::trace::TraceParent;

/// What a handler may ask about its run.
pub(crate) struct About {
    pub(crate) id: RunId,
    pub(crate) workflow: WorkflowKey,
    pub(crate) attempt: u64,
    pub(crate) reference_id: Option<String>,
    pub(crate) deadline: Option<Timestamp>,
    pub(crate) trace: Option<TraceParent>,
    pub(crate) gate: Option<Arc<dyn TaskGate>>,
    pub(crate) interceptor: Option<Arc<dyn TaskInterceptor>>,
    pub(crate) history: HistorySize,
    pub(crate) events: Arc<[String]>,
}

/// How long a run's history is, and how long it may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistorySize {
    /// Entries when this pass began.
    pub entries: u32,
    /// How many there may be: beyond, the run fails.
    pub limit: u32,
}

impl HistorySize {
    /// Whether it is time to continue as new: 80 % of the limit are used up.
    pub fn is_nearly_full(self) -> bool {
        u64::from(self.entries) * 5 >= u64::from(self.limit) * 4
    }
}

/// The machine and the wakers of the step futures, behind one lock that is never held across a poll
/// of user code.
pub(crate) struct Shared {
    pub(crate) id: RunId,
    pub(crate) workflow: WorkflowKey,
    pub(crate) attempt: u64,
    pub(crate) reference_id: Option<String>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) cancellation: CancellationToken,
    pub(crate) deadline: Option<Timestamp>,
    pub(crate) trace: Option<TraceParent>,
    pub(crate) gate: Option<Arc<dyn TaskGate>>,
    pub(crate) interceptor: Option<Arc<dyn TaskInterceptor>>,
    pub(crate) history: HistorySize,
    pub(crate) events: Arc<[String]>,
    state: Mutex<State>,
}

pub(crate) struct State {
    pub(crate) machine: RunMachine,
    wakers: Vec<Option<Waker>>,
}

impl Shared {
    pub(crate) fn new(about: About, clock: Arc<dyn Clock>, machine: RunMachine) -> Self {
        let About { id, workflow, attempt, reference_id, deadline, trace, gate, interceptor, history, events } = about;
        Self {
            id,
            workflow,
            attempt,
            reference_id,
            deadline,
            trace,
            gate,
            interceptor,
            history,
            events,
            clock,
            cancellation: CancellationToken::new(),
            state: Mutex::new(State { machine, wakers: Vec::new() }),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // The lock is only held for calls into the machine, which leave it whole if they panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the futures of the steps that the machine has moved.
    pub(crate) fn wake_steps(&self) {
        let wakers: Vec<Waker> = {
            let mut state = self.lock();
            let woken = state.machine.take_woken();
            woken.into_iter().filter_map(|step| state.wakers.get_mut(step.index()).and_then(Option::take)).collect()
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl State {
    /// Remembers whom to wake when the step moves.
    pub(crate) fn park(&mut self, step: StepId, waker: &Waker) {
        if self.wakers.len() <= step.index() {
            self.wakers.resize(step.index() + 1, None);
        }
        match &mut self.wakers[step.index()] {
            Some(known) if known.will_wake(waker) => {}
            slot => *slot = Some(waker.clone()),
        }
    }
}
