//! What surrounds every poll of a handler: its span, or silence; and the time at which it began.

use aiki_core::{RunId, RunRecord, TraceParent, WorkflowKey};
use tracing::Span;
use tracing::dispatcher::{self, Dispatch};

use crate::active::{Ticks, Watch};
use crate::trace;

pub(super) struct Handler<'a> {
    run: RunId,
    workflow: WorkflowKey,
    attempt: u64,
    trace: Option<TraceParent>,
    watch: &'a Watch,
    ticks: Ticks,
    /// Made for the first poll that is not silent.
    span: Option<Span>,
}

impl<'a> Handler<'a> {
    pub(super) fn new(record: &RunRecord, watch: &'a Watch, ticks: Ticks) -> Self {
        let (run, workflow, trace) = (record.id, record.workflow.clone(), record.trace.clone());
        Self { run, workflow, attempt: record.attempts, trace, watch, ticks, span: None }
    }

    /// Calls `poll`. What it logs is hidden when it is `silent`: it repeats what an earlier pass did.
    pub(super) fn surround<T>(&mut self, silent: bool, poll: impl FnOnce() -> T) -> T {
        self.watch.poll_begins(self.ticks.now());
        let result = if silent {
            dispatcher::with_default(&Dispatch::none(), poll)
        } else {
            let (run, workflow, attempt, trace) = (self.run, &self.workflow, self.attempt, self.trace.as_ref());
            self.span.get_or_insert_with(|| trace::handler_span(run, workflow, attempt, trace)).in_scope(poll)
        };
        self.watch.poll_ends();
        result
    }
}
