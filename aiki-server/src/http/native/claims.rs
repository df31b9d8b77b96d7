//! Claims and reports.

use std::time::Duration;

use aiki_core::server_client::{ClaimReady, ClaimRuns, ClaimStatus};
use aiki_core::{CancellationToken, ReportReceipt, RunId, ServerError};
use aiki_wire::native::{self, ClaimAnswer, Claimed, Outcome};

use super::{outcome, server};
use crate::local_client::{LocalClient, Sought};
use crate::measure;
use crate::operation;
use crate::storage::StoredRun;
use crate::validate;

pub(super) async fn claim(client: LocalClient, call: native::ClaimRuns) -> Result<Vec<ClaimAnswer>, ServerError> {
    let native::ClaimRuns { worker, lease, runs } = call;
    let answers = client.claim_rows(ClaimRuns { worker, runs, lease }).await?;
    let mut outcomes = Vec::with_capacity(answers.len());
    for answer in answers {
        outcomes.push(match answer {
            operation::ClaimAnswer::Granted(run) => match granted(&client, *run, lease).await {
                Some(claimed) => ClaimAnswer::Granted(Box::new(claimed)),
                None => ClaimAnswer::Owned { remaining: lease },
            },
            operation::ClaimAnswer::Owned(remaining) => ClaimAnswer::Owned { remaining },
            operation::ClaimAnswer::Done => ClaimAnswer::Done,
        });
        let measured = match outcomes.last() {
            Some(ClaimAnswer::Granted(_)) => measure::Claimed::Granted,
            Some(ClaimAnswer::Done) => measure::Claimed::Done,
            _ => measure::Claimed::Owned,
        };
        measure::claims(measured, 1);
    }
    Ok(outcomes)
}

pub(super) async fn claim_ready(
    client: LocalClient,
    call: native::ClaimReadyRuns,
) -> Result<Vec<Claimed>, ServerError> {
    let native::ClaimReadyRuns { worker, lease, workflows, pools, limit, question, wait } = call;
    let (workers, namespace) = (&client.server.workers, server(&client).namespace());
    let give = |runs: Vec<RunId>| {
        if let Some(question) = question {
            workers.give(namespace, &worker, question, runs, client.server.clock.now());
        }
    };
    if let Some(question) = question {
        client.server.seekers.end(namespace, &worker, question);
        if limit == 0 {
            // Whoever comes late with this question is not to wait any more.
            give(Vec::new());
            return Ok(Vec::new());
        }
    }
    let request = ClaimReady { worker: worker.clone(), workflows, pools, limit, lease };
    let sought = match question.and_then(|question| workers.given(namespace, &worker, question)) {
        Some(runs) => Sought::Given(runs),
        None if wait.is_zero() => Sought::Claimed(client.claim_ready_rows(request).await?, wait),
        None => client.seek(request, wait.min(native::MAX_WAIT), question, &CancellationToken::new()).await?,
    };
    let (rows, waited) = match sought {
        // The answer was lost on its way: the same runs again.
        Sought::Given(runs) => {
            let answers = client.claim_rows(ClaimRuns { worker, runs, lease }).await?;
            let granted = answers.into_iter().filter_map(|answer| match answer {
                operation::ClaimAnswer::Granted(run) => Some(*run),
                _ => None,
            });
            (granted.collect(), Duration::ZERO)
        }
        Sought::Over => (Vec::new(), Duration::ZERO),
        Sought::Claimed(rows, waited) => {
            give(rows.iter().map(|row: &StoredRun| row.head.id).collect());
            (rows, waited)
        }
    };
    let mut claimed = Vec::with_capacity(rows.len());
    for row in rows {
        let granted = granted(&client, row, lease).await;
        claimed.extend(granted.map(|claimed| Claimed { waited, ..claimed }));
    }
    measure::claims(measure::Claimed::Granted, claimed.len());
    Ok(claimed)
}

/// What the worker gets to see; `None` when the run cannot be read: the claim stands without a worker until it
/// lapses.
async fn granted(client: &LocalClient, row: StoredRun, lease: Duration) -> Option<Claimed> {
    let (run, epoch) = (row.head.id, row.head.epoch);
    match super::runs::data(client, row).await {
        Ok(run) => {
            Some(Claimed { run, epoch, lease, history_limit: client.server.history_limit, waited: Duration::ZERO })
        }
        Err(error) => {
            tracing::error!(%run, %error, "a claimed run cannot be read; it is tried again in {lease:?}");
            None
        }
    }
}

pub(super) async fn refresh(client: LocalClient, call: native::RefreshRuns) -> Result<Vec<ClaimStatus>, ServerError> {
    server(&client).refresh_runs(&call.worker, &call.claims, call.lease).await
}

pub(super) async fn release(client: LocalClient, call: native::ReleaseRuns) -> Result<Vec<ClaimStatus>, ServerError> {
    server(&client).release_runs(&call.worker, &call.claims).await
}

/// All in one go, so that they are one commit.
pub(super) async fn report(
    client: LocalClient,
    call: native::Reports,
) -> Result<Vec<Outcome<ReportReceipt>>, ServerError> {
    validate::items("reports", call.reports.len())?;
    let reports = call.reports.into_iter().map(|report| client.writing(report)).collect();
    Ok(client.call_each(reports).await.into_iter().map(outcome).collect())
}
