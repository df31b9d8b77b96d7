//! Writing down what a worker reports.

use aiki_core::run::RunHead;
use aiki_core::run::plan::{self, ReportContext, ReportError};
use aiki_core::{Name, Report, ReportReceipt, RunId, ServerError};

use super::Operation;
use super::children::Children;
use crate::lane::{Desk, Edit};
use crate::validate;

pub(crate) struct WriteReport {
    pub(crate) namespace: Name,
    pub(crate) report: Report,
    pub(crate) history_limit: u32,
}

impl Operation for WriteReport {
    type Answer = ReportReceipt;

    fn touches(&self, runs: &mut Vec<RunId>) {
        runs.push(self.report.run);
    }

    fn size(&self) -> usize {
        let payloads = self.report.transitions.iter().filter_map(validate::payload);
        payloads.map(|payload| payload.as_str().len()).sum()
    }

    fn plan(&self, desk: &mut Desk<'_>) -> Result<ReportReceipt, ServerError> {
        let report = &self.report;
        let head = &desk.run(&self.namespace, report.run)?.head;
        let repeated = is_repetition(head, report);
        // A report of a claim that is gone, or one that is known, starts nothing.
        let starts = !repeated && head.epoch == report.epoch && head.lease.is_some();
        let children = if starts { Children::decide(desk, &self.namespace, report)? } else { Children::default() };
        let context = ReportContext { children: children.decisions(), history_limit: self.history_limit };
        let planned = desk.edit(&self.namespace, report.run, |head, now, entries| {
            match plan::report(head, report, context, now, entries) {
                Ok(receipt) if repeated => Edit::Unchanged(Ok(receipt)),
                Ok(receipt) => Edit::Changed(Ok(receipt)),
                Err(error) => Edit::Unchanged(Err(error)),
            }
        })?;
        if let Ok(receipt) = &planned
            && starts
        {
            children.start(desk, &self.namespace, report)?;
            children.cancel(desk, &self.namespace, report, receipt)?;
        }
        planned.map_err(|error| match error {
            ReportError::Lost => ServerError::ClaimLost(report.run),
            ReportError::OutOfOrder { .. } => ServerError::Invalid(error.to_string()),
            ReportError::Illegal(_) => ServerError::IllegalTransition(error.to_string()),
        })
    }
}

/// Whether the report was written before and only its answer was lost.
fn is_repetition(head: &RunHead, report: &Report) -> bool {
    head.epoch == report.epoch && head.last_report.as_ref().is_some_and(|last| last.seq == report.seq)
}
