//! All log lines of the worker, and so all of their fields.
//!
//! While the server or the subscriber does not answer there is a warning at the first failure and then every 30 s, with
//! the `seconds` since then, and a line at level INFO when it is back. Each failure by itself is at level DEBUG.
//!
//! | field | meaning |
//! |---|---|
//! | `worker` | the worker's unique name, `<id>:<boot>` |
//! | `run` | a run's id |
//! | `workflow` | name and version, `order@1.0.0` |
//! | `attempt` | the attempt of the run, from 1 |
//! | `location` | where the handler made its last durable call, `src/order.rs:12:9` |
//! | `error` | what went wrong |
//! | `failures` | failures in a row |
//! | `delay_ms` | time until the next try, in milliseconds |
//! | `seconds` | how long something has lasted |
//! | `configured_ms`, `effective_ms` | the heartbeat as configured and as used, in milliseconds |
//! | `claims` | how many claims it is about |
//! | `entries`, `limit` | entries of a run's history, and how many there may be |
//! | `slots` | runs that are executed at the same time |
//! | `report` | the worker's last words |
//! | `trace_id` | the trace from which the run was started, 32 hex digits |
//! | `trace_parent` | the same with the span in it that started the run, as W3C `traceparent`: link to it |
//!
//! The span `run` with `run`, `workflow`, `attempt` and the trace, if there is one, surrounds the handler, except while it
//! replays what an earlier pass did: then its log lines are hidden.

use std::fmt::Display;
use std::panic::Location;
use std::time::Duration;

use aiki_core::context::HistorySize;
use aiki_core::{RunId, ServerError, TraceParent, WorkflowKey};
use tracing::{Span, debug, error, info, info_span, warn};

use crate::reach::Whom;
use crate::report::StopReport;

/// The target of all lines here.
pub const TARGET: &str = "aiki::worker";

/// The span around a handler. The trace is not its parent: a run may begin long after the request that
/// started it has ended.
pub(crate) fn handler_span(run: RunId, workflow: &WorkflowKey, attempt: u64, trace: Option<&TraceParent>) -> Span {
    match trace {
        None => info_span!(target: TARGET, "run", %run, %workflow, attempt),
        Some(trace) => {
            let (trace_id, trace_parent) = (trace.trace_id(), trace.as_str());
            info_span!(target: TARGET, "run", %run, %workflow, attempt, trace_id, trace_parent)
        }
    }
}

pub(crate) fn started(worker: &str, slots: usize) {
    info!(target: TARGET, worker, slots, "the worker is at work");
}

pub(crate) fn not_started(worker: &str, error: &dyn Display) {
    error!(target: TARGET, worker, %error, "the worker does not start");
}

pub(crate) fn stopping(worker: &str) {
    info!(target: TARGET, worker, "the worker stops: it takes no new runs");
}

pub(crate) fn stopped(report: &StopReport) {
    info!(target: TARGET, worker = %report.worker, %report, "the worker has stopped");
}

pub(crate) fn heartbeat_lowered(worker: &str, configured: Duration, effective: Duration) {
    let (configured_ms, effective_ms) = (configured.as_millis() as u64, effective.as_millis() as u64);
    info!(
        target: TARGET, worker, configured_ms, effective_ms,
        "the heartbeat is a third of the time after which runs go to other workers, not as configured"
    );
}

pub(crate) fn heartbeat_on_runtime(worker: &str, error: &dyn Display) {
    warn!(
        target: TARGET, worker, %error,
        "no thread of its own for heartbeats: handlers that block the runtime may cost their claims"
    );
}

pub(crate) fn duplicate_ignored(workflow: &WorkflowKey) {
    warn!(target: TARGET, %workflow, "this workflow is registered already: the second registration is ignored");
}

/// `lasted`: zero at the first failure.
pub(crate) fn away(worker: &str, whom: Whom, error: &dyn Display, lasted: Duration) {
    let seconds = lasted.as_secs();
    match whom {
        Whom::Server => warn!(target: TARGET, worker, %error, seconds, "the server cannot be reached; trying again"),
        Whom::Subscriber => {
            warn!(target: TARGET, worker, %error, seconds, "the subscriber cannot receive; trying again");
        }
    }
}

pub(crate) fn back(worker: &str, whom: Whom, lasted: Duration) {
    let seconds = lasted.as_secs();
    match whom {
        Whom::Server => info!(target: TARGET, worker, seconds, "the server is back"),
        Whom::Subscriber => info!(target: TARGET, worker, seconds, "the subscriber receives again"),
    }
}

pub(crate) fn not_subscribed(worker: &str, error: &dyn Display, failures: u32, delay: Duration) {
    let delay_ms = delay.as_millis() as u64;
    debug!(target: TARGET, worker, %error, failures, delay_ms, "no subscription; trying again");
}

pub(crate) fn not_received(worker: &str, error: &dyn Display, failures: u32, delay: Duration) {
    let delay_ms = delay.as_millis() as u64;
    debug!(target: TARGET, worker, %error, failures, delay_ms, "nothing received; trying again");
}

pub(crate) fn backup_begins(worker: &str, error: &dyn Display) {
    warn!(target: TARGET, worker, %error, "the subscriber is away: ready runs are claimed straight from the server");
}

pub(crate) fn backup_ends(worker: &str) {
    info!(target: TARGET, worker, "the subscriber answers again: runs come through it");
}

pub(crate) fn primary_refused(worker: &str, error: &dyn Display) {
    error!(target: TARGET, worker, %error, "the subscriber refuses the worker; it is tried again all the same");
}

pub(crate) fn claim_failed(worker: &str, error: &dyn Display, failures: u32, delay: Duration) {
    let delay_ms = delay.as_millis() as u64;
    debug!(target: TARGET, worker, %error, failures, delay_ms, "runs cannot be claimed; they are put back");
}

pub(crate) fn claim_unanswered(worker: &str, claims: usize) {
    warn!(
        target: TARGET, worker, claims,
        "the worker stops without an answer to its claim: what was granted waits until its lease lapses"
    );
}

pub(crate) fn settle_failed(worker: &str, error: &dyn Display) {
    debug!(target: TARGET, worker, %error, "deliveries stay unsettled and will come again");
}

pub(crate) fn hand_back_failed(worker: &str, error: &dyn Display) {
    warn!(target: TARGET, worker, %error, "runs cannot be given back: they wait until their leases lapse");
}

pub(crate) fn refresh_failed(worker: &str, error: &dyn Display, failures: u32) {
    debug!(target: TARGET, worker, %error, failures, "claims cannot be prolonged; trying again");
}

pub(crate) fn refresh_refused(worker: &str, error: &dyn Display, claims: usize) {
    error!(
        target: TARGET, worker, %error, claims,
        "the server refuses to prolong claims: their handlers are stopped before the leases lapse, and nothing \
         new is taken until it prolongs claims again"
    );
}

pub(crate) fn signals_not_read(run: RunId, error: &ServerError) {
    debug!(target: TARGET, %run, %error, "what has come for the run could not be read; the run sees it later");
}

pub(crate) fn history_nearly_full(run: RunId, workflow: &WorkflowKey, history: HistorySize) {
    let HistorySize { entries, limit } = history;
    warn!(
        target: TARGET, %run, %workflow, entries, limit,
        "the run's history is nearly full: let the workflow continue as new, or the run fails"
    );
}

pub(crate) fn claim_lost(run: RunId) {
    warn!(target: TARGET, %run, "the claim is gone: the handler is stopped and writes nothing more");
}

pub(crate) fn claimed_anew(run: RunId) {
    warn!(
        target: TARGET, %run,
        "the server gave this worker a new claim on a run that it holds: the old one is gone, its handler is stopped"
    );
}

pub(crate) fn claimed_too_late(run: RunId) {
    warn!(target: TARGET, %run, "the answer to a claim took half of its lease or longer: it is given back unused");
}

pub(crate) fn fenced(run: RunId) {
    warn!(
        target: TARGET, %run,
        "the claim was not confirmed in time: the handler is stopped before another worker may begin"
    );
}

pub(crate) fn report_delayed(run: RunId, error: &dyn Display, failures: u32, delay: Duration) {
    let delay_ms = delay.as_millis() as u64;
    debug!(target: TARGET, %run, %error, failures, delay_ms, "a report cannot be sent; trying again");
}

pub(crate) fn report_refused(run: RunId, error: &dyn Display) {
    error!(target: TARGET, %run, %error, "the server refuses a report: the run fails");
}

pub(crate) fn report_given_up(run: RunId, error: &dyn Display) {
    error!(target: TARGET, %run, %error, "a report cannot be written: the run is given back");
}

pub(crate) fn executor_panicked(run: RunId) {
    error!(target: TARGET, %run, "the executor panicked: the run is given back");
}

pub(crate) fn not_registered(run: RunId, workflow: &WorkflowKey) {
    warn!(target: TARGET, %run, %workflow, "this worker does not serve the run's workflow: the run is given back");
}

pub(crate) fn foreign_wait(run: RunId, workflow: &WorkflowKey, location: &dyn Display) {
    warn!(
        target: TARGET, %run, %workflow, %location,
        "the handler waits for something that is not durable, such as a runtime's own timer: after a crash \
         nothing would wake it. Use `run.sleep(..)` or a task"
    );
}

pub(crate) fn long_poll(run: RunId, workflow: &WorkflowKey, lasted: Duration, location: &dyn Display) {
    let seconds = lasted.as_secs();
    warn!(
        target: TARGET, %run, %workflow, seconds, %location,
        "the handler does not yield and blocks a thread of the runtime: use `spawn_blocking` for such work"
    );
}

/// A location for people.
pub(crate) fn place(location: Option<&'static Location<'static>>) -> String {
    location.map_or_else(|| "before its first durable call".to_owned(), ToString::to_string)
}
