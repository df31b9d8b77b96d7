//! Sending one report until the server has answered for good.

use aiki_core::replay::Close;
use aiki_core::{ExecutionScope, Report, ReportReceipt, ServerError, Transition};

use super::ReplayExecutor;
use crate::{backoff, trace};

/// So often a report meets the server's own fault before the run is given back.
const MAX_INTERNAL: u32 = 8;

/// What became of a report.
#[derive(Debug, PartialEq)]
pub(super) enum Answer {
    /// It is on record.
    Written(ReportReceipt),
    /// The claim is gone.
    Lost,
    /// The server will not write it, however often it is sent.
    Refused(ServerError),
    /// It makes no sense to go on now; the claim still stands.
    GivenUp,
}

impl ReplayExecutor {
    /// Sends the report, under the same number again while the server cannot be reached. Never ends
    /// by itself in that case: the loss of the claim or the worker's stop end it.
    pub(super) async fn send(&self, report: Report, scope: &ExecutionScope) -> Answer {
        let run = report.run;
        let (mut failures, mut internal) = (0, 0);
        loop {
            let error = match self.server.report(report.clone()).await {
                Ok(receipt) => {
                    self.reach.answered();
                    self.meter.reported(&report);
                    return Answer::Written(receipt);
                }
                Err(ServerError::ClaimLost(_) | ServerError::RunNotFound(_)) => return Answer::Lost,
                Err(error) => error,
            };
            match &error {
                ServerError::Unavailable(_) | ServerError::Unauthorized(_) => {}
                ServerError::Internal(_) if internal < MAX_INTERNAL => internal += 1,
                ServerError::Internal(_) => {
                    trace::report_given_up(run, &error);
                    return Answer::GivenUp;
                }
                _ => return Answer::Refused(error),
            }
            if scope.interrupted.is_cancelled() {
                return Answer::GivenUp;
            }
            failures += 1;
            self.reach.refused(&error);
            let delay = backoff::REPORT.delay(failures, self.entropy.next_u64());
            trace::report_delayed(run, &error, failures, delay);
            tokio::time::sleep(delay).await;
        }
    }
}

/// How the pass ends with this report, if it does.
pub(super) fn close_of(report: &Report) -> Option<Close> {
    match report.transitions.last()? {
        Transition::Suspended => Some(Close::Suspended),
        Transition::Completed { .. } => Some(Close::Completed),
        Transition::Failed { .. } => Some(Close::Failed),
        Transition::RetryScheduled { .. } => Some(Close::Retrying),
        Transition::ContinuedAsNew { .. } => Some(Close::Continued),
        _ => None,
    }
}
