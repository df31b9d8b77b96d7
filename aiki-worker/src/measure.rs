//! All counters and gauges of the worker, and so all of their labels. `docs/metrics.md` is their table.
//!
//! Without the feature `metrics` nothing of it is compiled in; without a recorder nothing is kept.

use std::time::Duration;

use aiki_core::replay::Close;
use aiki_core::server_client::ClaimOutcome;
use aiki_core::{Outcome, Report, SubscriberError, Timestamp, Transition};

/// Which way runs came or did not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Through {
    /// A transport.
    Subscriber,
    /// Claims straight from the server.
    Server,
}

/// Measures for one worker, or for nobody.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meter {
    #[cfg(feature = "metrics")]
    worker: Option<std::sync::Arc<str>>,
}

impl Through {
    const fn label(self) -> &'static str {
        match self {
            Through::Subscriber => "subscriber",
            Through::Server => "server",
        }
    }
}

impl Meter {
    /// Measures under the worker's configured id: its unique name would be a new series with each start.
    pub(crate) fn of(_id: &str) -> Self {
        Self {
            #[cfg(feature = "metrics")]
            worker: Some(_id.into()),
        }
    }

    pub(crate) fn claim(&self, outcome: &ClaimOutcome) {
        let answer = match outcome {
            ClaimOutcome::Granted(_) => return,
            ClaimOutcome::Owned { .. } => "owned",
            ClaimOutcome::Done => "done",
        };
        self.count("aiki_worker_claims_total", 1, &[("answer", answer)]);
    }

    pub(crate) fn claim_granted(&self) {
        self.count("aiki_worker_claims_total", 1, &[("answer", "granted")]);
    }

    pub(crate) fn claims_failed(&self, claims: usize) {
        self.count("aiki_worker_claims_total", claims, &[("answer", "failed")]);
    }

    pub(crate) fn ended(&self, outcome: Outcome) {
        let outcome = match outcome {
            Outcome::Closed(Close::Completed) => "completed",
            Outcome::Closed(Close::Failed) => "failed",
            Outcome::Closed(Close::Suspended | Close::Continued) => "suspended",
            Outcome::Closed(Close::Retrying) => "retrying",
            Outcome::Closed(Close::Lost) => "lost",
            Outcome::Interrupted => "interrupted",
        };
        self.count("aiki_worker_runs_total", 1, &[("outcome", outcome)]);
    }

    /// A report is on record.
    pub(crate) fn reported(&self, report: &Report) {
        for transition in &report.transitions {
            let outcome = match transition {
                Transition::TaskCompleted { .. } => "completed",
                Transition::TaskFailed { .. } => "failed",
                Transition::TaskParked { .. } => "parked",
                _ => continue,
            };
            self.count("aiki_worker_task_attempts_total", 1, &[("outcome", outcome)]);
        }
    }

    pub(crate) fn deliveries(&self, through: Through, deliveries: usize) {
        self.count("aiki_worker_deliveries_total", deliveries, &[("through", through.label())]);
    }

    pub(crate) fn subscriber_error(&self, through: Through, error: &SubscriberError) {
        let cause = match error {
            SubscriberError::Unavailable(_) => "unavailable",
            SubscriberError::Misconfigured(_) => "misconfigured",
            SubscriberError::Closed => "closed",
        };
        let labels = [("through", through.label()), ("cause", cause)];
        self.count("aiki_worker_subscriber_errors_total", 1, &labels);
    }

    pub(crate) fn reconnected(&self) {
        self.count("aiki_worker_reconnects_total", 1, &[]);
    }

    pub(crate) fn on_backup(&self, on_backup: bool) {
        let to = if on_backup { "server" } else { "subscriber" };
        self.count("aiki_worker_backup_switches_total", 1, &[("to", to)]);
        self.gauge("aiki_worker_on_backup", f64::from(u8::from(on_backup)));
    }

    pub(crate) fn consumed(&self, at: Timestamp) {
        self.gauge("aiki_worker_last_consume_timestamp_seconds", at.as_millis() as f64 / 1e3);
    }

    /// Once for each turn of the dispatcher's loop.
    pub(crate) fn ticked(&self, at: Timestamp, active: usize, slots: usize, held: usize) {
        self.gauge("aiki_worker_loop_tick_timestamp_seconds", at.as_millis() as f64 / 1e3);
        self.gauge("aiki_worker_active_runs", active as f64);
        self.gauge("aiki_worker_slots", slots as f64);
        self.gauge("aiki_worker_held_deliveries", held as f64);
    }

    pub(crate) fn oldest_lease(&self, age: Option<Duration>) {
        self.gauge("aiki_worker_oldest_lease_seconds", age.unwrap_or_default().as_secs_f64());
    }

    #[cfg(feature = "metrics")]
    fn labels(&self, more: &[(&'static str, &'static str)]) -> Option<Vec<metrics::Label>> {
        let worker = metrics::Label::new("worker", self.worker.clone()?);
        let more = more.iter().map(|(key, value)| metrics::Label::from_static_parts(key, value));
        Some(std::iter::once(worker).chain(more).collect())
    }

    #[cfg(feature = "metrics")]
    fn count(&self, name: &'static str, amount: usize, labels: &[(&'static str, &'static str)]) {
        if amount > 0
            && let Some(labels) = self.labels(labels)
        {
            metrics::counter!(name, labels).increment(amount as u64);
        }
    }

    #[cfg(feature = "metrics")]
    fn gauge(&self, name: &'static str, value: f64) {
        if let Some(labels) = self.labels(&[]) {
            metrics::gauge!(name, labels).set(value);
        }
    }

    #[cfg(not(feature = "metrics"))]
    #[inline(always)]
    fn count(&self, _: &'static str, _: usize, _: &[(&'static str, &'static str)]) {}

    #[cfg(not(feature = "metrics"))]
    #[inline(always)]
    fn gauge(&self, _: &'static str, _: f64) {}
}

/// Tells the installed recorder what each counter and gauge of the worker means. Call it once, after the
/// recorder was installed.
#[cfg(feature = "metrics")]
pub fn describe_metrics() {
    use metrics::{Unit, describe_counter, describe_gauge};
    describe_counter!("aiki_worker_claims_total", "Answers of the server to claims, by answer");
    describe_counter!("aiki_worker_runs_total", "Passes over runs that ended here, by outcome");
    describe_counter!("aiki_worker_task_attempts_total", "Attempts of tasks whose end is on record, by outcome");
    describe_counter!("aiki_worker_deliveries_total", "Runs that were delivered, by the way they came");
    describe_counter!("aiki_worker_subscriber_errors_total", "Failed calls for deliveries, by cause and way");
    describe_counter!("aiki_worker_reconnects_total", "Times that the subscriber answered again after failing");
    describe_counter!("aiki_worker_backup_switches_total", "Switches to the backup subscriber and back");
    describe_gauge!("aiki_worker_active_runs", "Runs that are being executed");
    describe_gauge!("aiki_worker_slots", "Runs that can be executed at the same time");
    describe_gauge!("aiki_worker_held_deliveries", "Deliveries held or not settled yet");
    describe_gauge!("aiki_worker_on_backup", "1 while runs come through the backup subscriber");
    describe_gauge!(
        "aiki_worker_oldest_lease_seconds",
        Unit::Seconds,
        "Age of the lease that was confirmed longest ago"
    );
    describe_gauge!("aiki_worker_last_consume_timestamp_seconds", Unit::Seconds, "When the transport last answered");
    describe_gauge!("aiki_worker_loop_tick_timestamp_seconds", Unit::Seconds, "When the worker's loop last went round");
}
