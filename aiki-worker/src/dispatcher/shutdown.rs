//! Stopping: wait, interrupt, abort, give back, say so.

use std::time::Duration;

use aiki_core::replay::Close;
use aiki_core::subscriber::ReleaseDelay;
use aiki_core::{Outcome, RunId};
use tokio::time::{Instant, sleep_until, timeout};

use super::settle::CALL_LIMIT;
use super::{Dispatcher, intake, next_errand};
use crate::report::StopReport;
use crate::status::WorkerPhase;
use crate::trace;

/// How long handlers that were interrupted have to yield.
const YIELD_LIMIT: Duration = Duration::from_millis(500);
/// How long tasks that were aborted have to yield.
const ABORT_LIMIT: Duration = Duration::from_millis(100);

impl Dispatcher {
    /// Stops. Takes at most the graceful timeout, [`YIELD_LIMIT`], [`ABORT_LIMIT`] and the limits of
    /// the calls: of a claim under way, and of those that give back.
    pub(super) async fn shut_down(&mut self) -> StopReport {
        let shared = self.shared.clone();
        shared.control.send_modify(|control| control.stop = true);
        shared.lifecycle.advance(WorkerPhase::Stopping);
        trace::stopping(shared.name.as_str());
        let given_back = self.state.close();
        self.unsettled.merge(given_back);
        if self.intake.as_ref().is_some_and(intake::Intake::is_cancel_safe) {
            self.intake = None;
            self.state.intake_ends();
        }
        let finished = self.drain(shared.settings.graceful).await;
        for active in shared.active.all() {
            active.scope.interrupted.cancel();
        }
        let yielded = self.drain(YIELD_LIMIT).await;
        self.running.abort_all();
        self.drain(ABORT_LIMIT).await;
        // What does not yield is left behind; its claim goes back all the same.
        let mut abandoned = self.state.held_runs();
        abandoned.sort_unstable();
        for run in &abandoned {
            self.ended(*run, Outcome::Interrupted);
        }
        self.await_claim().await;
        self.settle_all().await;
        self.report(finished + yielded, abandoned)
    }

    /// Waits until nothing is held and no claim is under way, at most for `limit`. Says how many
    /// passes ended by themselves.
    async fn drain(&mut self, limit: Duration) -> usize {
        let deadline = Instant::now() + limit;
        let mut finished = 0;
        while self.state.held() > 0 || self.intake.is_some() {
            self.launch_errand();
            tokio::select! {
                biased;
                Some(joined) = self.running.join_next_with_id(), if !self.running.is_empty() => {
                    let outcome = self.joined(joined);
                    let by_itself = |outcome| !matches!(outcome, Outcome::Interrupted | Outcome::Closed(Close::Lost));
                    finished += usize::from(outcome.is_some_and(by_itself));
                }
                event = intake::next(&mut self.intake), if self.intake.is_some() => {
                    // Only a claim can be under way. Whatever is wrong with it does not matter now.
                    drop(self.arrived(event));
                }
                handed_back = next_errand(&mut self.errand), if self.errand.is_some() => self.settled(handed_back),
                () = sleep_until(deadline) => break,
            }
        }
        finished
    }

    /// Waits for the answer to a claim under way, at most [`CALL_LIMIT`]: what it grants has to go back.
    async fn await_claim(&mut self) {
        if self.intake.is_none() {
            return;
        }
        match timeout(CALL_LIMIT, intake::next(&mut self.intake)).await {
            // Whatever is wrong with it does not matter now.
            Ok(event) => drop(self.arrived(event)),
            Err(_) => self.abandon_claim(),
        }
    }

    /// Nobody knows whether the claim under way was granted.
    fn abandon_claim(&mut self) {
        let claiming = self.intake.take().map(intake::Intake::abandon).unwrap_or_default();
        trace::claim_unanswered(self.shared.name.as_str(), claiming.len());
        for (run, ticket) in claiming {
            self.handed_back.unconfirmed.push(run);
            // Whoever receives it next is told how long the lease lasts, if there is one.
            self.unsettled.release.push((ticket, ReleaseDelay::None));
        }
        self.state.intake_ends();
    }

    /// Gives everything back and ends the subscriptions. Each call has its own limit.
    async fn settle_all(&mut self) {
        self.retired.extend(self.session.take());
        loop {
            if self.errand.is_some() {
                let handed_back = next_errand(&mut self.errand).await;
                self.settled(handed_back);
            }
            self.launch_errand();
            if self.errand.is_none() {
                return;
            }
        }
    }

    fn report(&mut self, finished: usize, abandoned: Vec<RunId>) -> StopReport {
        let sorted = |mut runs: Vec<RunId>| {
            runs.sort_unstable();
            runs
        };
        let handed_back = std::mem::take(&mut self.handed_back);
        StopReport {
            worker: self.shared.name.as_str().to_owned(),
            finished,
            handed_back: sorted(handed_back.done),
            abandoned,
            lost: sorted(handed_back.lost),
            unconfirmed: sorted(handed_back.unconfirmed),
            totals: self.shared.counters.totals(),
        }
    }
}
