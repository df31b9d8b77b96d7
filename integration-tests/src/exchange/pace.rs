//! Schedules go by the clock: from the first one on, a scenario is not played faster than it was recorded.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep_until};

use super::recording::Exchange;

/// Nobody waits in a recording for a schedule that fires more seldom, ms.
const OFTEN: f64 = 60_000.0;

/// When a scenario may go on.
#[derive(Debug, Default)]
pub struct Pace {
    /// The moment of the replay and that of the recording, ms, at which the first schedule was activated.
    since: Option<(Instant, u64)>,
}

impl Pace {
    /// Looks for a schedule that fires soon.
    pub fn note(&mut self, exchange: &Exchange) {
        if self.since.is_none() && every(exchange).is_some_and(|every| every <= OFTEN) {
            self.since = Some((Instant::now(), exchange.received_at_ms));
        }
    }

    /// Whether a schedule fires again and again.
    #[must_use]
    pub fn goes_by_the_clock(&self) -> bool {
        self.since.is_some()
    }

    /// Waits for the moment at which the exchange was recorded. Cancel-safe.
    pub async fn wait(&self, exchange: &Exchange) {
        if let Some((live, recorded)) = self.since {
            sleep_until(live + Duration::from_millis(exchange.sent_at_ms.saturating_sub(recorded))).await;
        }
    }
}

/// How often the schedule fires that an exchange activated, ms. Cron counts as often: at most a minute passes.
pub(super) fn every(exchange: &Exchange) -> Option<f64> {
    let activated = exchange.output().filter(|_| exchange.procedure() == "schedule/activateV1")?;
    every_of(activated.get("schedule")?)
}

/// How often a schedule fires, ms.
pub(super) fn every_of(schedule: &Value) -> Option<f64> {
    let spec = schedule.get("spec")?;
    if spec.get("type")? == "cron" { Some(1_000.0) } else { spec.get("everyMs")?.as_f64() }
}
