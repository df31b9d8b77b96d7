//! All counters, gauges and histograms of the server, and so all of their labels. `docs/metrics.md` is
//! their table. The names of workflows are no labels: callers choose them, and there is no end of them.
//!
//! Without the feature `metrics` nothing of it is compiled in; without a recorder nothing is kept.

use std::time::Duration;

use aiki_core::run::{RunHead, RunState};

/// What a worker was told about a run that it asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Claimed {
    Granted,
    Owned,
    Done,
}

#[cfg(feature = "metrics")]
mod to {
    pub(super) fn count(name: &'static str, amount: usize) {
        metrics::counter!(name).increment(amount as u64);
    }

    pub(super) fn count_one(name: &'static str, label: &'static str, value: &'static str, amount: usize) {
        metrics::counter!(name, label => value).increment(amount as u64);
    }

    pub(super) fn gauge(name: &'static str, value: f64) {
        metrics::gauge!(name).set(value);
    }

    pub(super) fn observe(name: &'static str, value: f64) {
        metrics::histogram!(name).record(value);
    }
}

#[cfg(not(feature = "metrics"))]
mod to {
    #[inline(always)]
    pub(super) fn count(_: &'static str, _: usize) {}
    #[inline(always)]
    pub(super) fn count_one(_: &'static str, _: &'static str, _: &'static str, _: usize) {}
    #[inline(always)]
    pub(super) fn gauge(_: &'static str, _: f64) {}
    #[inline(always)]
    pub(super) fn observe(_: &'static str, _: f64) {}
}

pub(crate) fn started() {
    to::count("aiki_workflows_started_total", 1);
}

/// A run has ended, by whatever.
pub(crate) fn ended(head: &RunHead) {
    let name = match head.state {
        RunState::Completed { .. } => "aiki_workflows_completed_total",
        RunState::Failed { .. } => "aiki_workflows_failed_total",
        RunState::Cancelled { .. } => "aiki_workflows_cancelled_total",
        _ => return,
    };
    to::count(name, 1);
}

pub(crate) fn claims(answer: Claimed, claims: usize) {
    let answer = match answer {
        Claimed::Granted => "granted",
        Claimed::Owned => "owned",
        Claimed::Done => "done",
    };
    if claims > 0 {
        to::count_one("aiki_claims_total", "answer", answer, claims);
    }
}

/// A batch of requests went through the lane.
pub(crate) fn batch(requests: usize) {
    to::observe("aiki_commit_requests", requests as f64);
}

/// The store has written a batch, or has not.
pub(crate) fn commit(took: Duration, written: bool) {
    to::observe("aiki_commit_seconds", took.as_secs_f64());
    let outcome = if written { "written" } else { "failed" };
    to::count_one("aiki_commits_total", "outcome", outcome, 1);
}

/// So many runs wait to be announced.
pub(crate) fn outbox(depth: usize) {
    to::gauge("aiki_outbox_depth", depth as f64);
}

pub(crate) fn announced(sent: usize, failed: usize) {
    to::count_one("aiki_announcements_total", "outcome", "sent", sent);
    to::count_one("aiki_announcements_total", "outcome", "failed", failed);
}

/// The timer serves what was due so long ago.
pub(crate) fn due_lag(lag: Duration) {
    to::observe("aiki_due_lag_seconds", lag.as_secs_f64());
}

/// Tells the installed recorder what each series of the server means. Call it once, after the recorder was
/// installed.
#[cfg(feature = "metrics")]
pub fn describe_metrics() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
    describe_counter!("aiki_workflows_started_total", "Runs that were created");
    describe_counter!("aiki_workflows_completed_total", "Runs that completed");
    describe_counter!("aiki_workflows_failed_total", "Runs that failed for good");
    describe_counter!("aiki_workflows_cancelled_total", "Runs that were cancelled");
    describe_counter!("aiki_claims_total", "Runs that workers asked for, by answer");
    describe_counter!("aiki_commits_total", "Transactions of the store, by outcome");
    describe_histogram!("aiki_commit_seconds", Unit::Seconds, "How long a transaction of the store took");
    describe_histogram!("aiki_commit_requests", "Requests that were planned together");
    describe_gauge!("aiki_outbox_depth", "Ready runs that wait to be announced");
    describe_counter!("aiki_announcements_total", "Announcements of ready runs, by outcome");
    describe_histogram!("aiki_due_lag_seconds", Unit::Seconds, "How late a due time was served");
    describe_counter!("aiki_requests_total", "Requests, by procedure and status");
    describe_histogram!("aiki_request_seconds", Unit::Seconds, "How long requests took, by procedure");
    describe_gauge!("aiki_requests_in_flight", "Requests that are being worked on");
    describe_gauge!("aiki_connections", "Open connections of clients and workers");
    describe_gauge!("aiki_ready", "1 while the server is ready, see /readyz");
}
