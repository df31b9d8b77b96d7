//! Waiting for the first of several runs to end.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use aiki_core::server_client::RunView;
use aiki_core::{RunId, ServerError};
use aiki_wire::native::{self, Awaited};

use super::outcome;
use crate::local_client::LocalClient;
use crate::validate;
use crate::watchers::Watch;

pub(super) async fn await_runs(client: LocalClient, call: native::AwaitRuns) -> Result<Vec<Awaited>, ServerError> {
    validate::items("runs", call.runs.len())?;
    let timeout = call.timeout.min(native::MAX_WAIT);
    if timeout.is_zero() {
        return Ok(look(&client, &call.runs, false).await);
    }
    // First the watch, then the look: no end can slip through.
    let mut watches = Vec::with_capacity(call.runs.len());
    for run in &call.runs {
        watches.push((*run, client.server.watchers.watch(*run)?));
    }
    let settled = look(&client, &call.runs, true).await;
    if !settled.is_empty() {
        return Ok(settled);
    }
    let closed = || ServerError::Unavailable("the server was closed".into());
    let told_of = tokio::select! {
        biased;
        ended = ended(&mut watches) => ended,
        () = client.server.closed() => return Err(closed()),
        () = client.server.draining() => return Ok(look(&client, &call.runs, false).await),
        () = tokio::time::sleep(timeout) => return Ok(look(&client, &call.runs, false).await),
    };
    let answer = |(run, view): (RunId, Option<RunView>)| Awaited { run, view: outcome(view.ok_or_else(closed)) };
    Ok(told_of.into_iter().map(answer).collect())
}

/// Where the runs stand, or only those that need no wait.
async fn look(client: &LocalClient, runs: &[RunId], settled_only: bool) -> Vec<Awaited> {
    let rows = client.load_all(runs).await.into_iter();
    let views = rows.map(|row| row.map(|row| client.view(row.head)));
    let waits = |view: &Result<RunView, ServerError>| matches!(view, Ok(view) if !view.state.is_terminal());
    let told = runs.iter().zip(views).filter(|(_, view)| !settled_only || !waits(view));
    told.map(|(run, view)| Awaited { run: *run, view: outcome(view) }).collect()
}

type Ended = Vec<(RunId, Option<RunView>)>;

/// Takes out the watches whose run has ended; waits for the first. Cancel-safe.
async fn ended(watches: &mut Vec<(RunId, Watch)>) -> Ended {
    poll_fn(|context| {
        let mut ended = Vec::new();
        watches.retain_mut(|(run, watch)| match pin!(watch.ended()).poll(context) {
            Poll::Ready(view) => {
                ended.push((*run, view));
                false
            }
            Poll::Pending => true,
        });
        if ended.is_empty() { Poll::Pending } else { Poll::Ready(ended) }
    })
    .await
}
