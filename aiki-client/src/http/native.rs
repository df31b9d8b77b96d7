//! The batches of our own procedures.

use std::sync::{Arc, Weak};
use std::time::Duration;

use aiki_core::run::plan::CreateRun;
use aiki_core::server_client::{CreatedRun, SendEvent};
use aiki_core::{Clock, Report, ReportReceipt, ServerError};
use aiki_runtime::{Entropy, SystemClock, SystemEntropy};
use aiki_wire::native::{Call, CreateRuns, NewRun, OneEvent, Outcome, Reports, SendEvents};
use reqwest::header::HeaderValue;

use super::batch::Batcher;
use super::client::Shared;
use super::failure::Failure;
use super::io::closed;
use super::send::{GaveUp, Repeat};

/// One item of a batch with its caller's trace context.
#[derive(Clone)]
pub(super) struct Traced<T> {
    pub(super) item: T,
    pub(super) traceparent: Option<HeaderValue>,
}

pub(super) type Sent = Traced<OneEvent>;

type Results<T> = Vec<Result<T, ServerError>>;

pub(super) fn creates(shared: Weak<Shared>) -> Arc<Batcher<CreateRun, CreatedRun>> {
    Batcher::new(move |runs: Vec<CreateRun>| {
        let shared = shared.upgrade();
        async move {
            let Some(shared) = shared else { return refuse_all(runs.len(), &closed()) };
            let runs = runs.into_iter().map(new_run).collect();
            let answers = each(&shared, runs, None, |runs| CreateRuns { runs }, Shared::error).await;
            answers.into_iter().map(|answer| answer.and_then(Outcome::into_result)).collect()
        }
    })
}

pub(super) fn reports(shared: Weak<Shared>) -> Arc<Batcher<Report, ReportReceipt>> {
    Batcher::new(move |reports: Vec<Report>| {
        let shared = shared.upgrade();
        async move {
            let Some(shared) = shared else { return refuse_all(reports.len(), &closed()) };
            let answers = each(&shared, reports, None, |reports| Reports { reports }, Shared::judgement).await;
            answers.into_iter().map(|answer| answer.and_then(Outcome::into_result)).collect()
        }
    })
}

pub(super) fn events(shared: Weak<Shared>) -> Arc<Batcher<Sent, ()>> {
    Batcher::new(move |events: Vec<Sent>| {
        let shared = shared.upgrade();
        async move {
            let Some(shared) = shared else { return refuse_all(events.len(), &closed()) };
            let (events, traceparent) = untraced(events);
            let answers = each(&shared, events, traceparent, |events| SendEvents { events }, Shared::error).await;
            answers.into_iter().map(|answer| answer.and_then(Outcome::into_result)).collect()
        }
    })
}

/// An event with a key of its own, where nothing else tells it from the next one.
pub(super) fn keyed(event: SendEvent, key: u64) -> OneEvent {
    let key = event.event.reference_id.is_none().then(|| format!("{key:016x}"));
    OneEvent { event, key }
}

/// Several callers have no trace context in common.
fn untraced<T>(items: Vec<Traced<T>>) -> (Vec<T>, Option<HeaderValue>) {
    let traceparent = match &items[..] {
        [only] => only.traceparent.clone(),
        _ => None,
    };
    (items.into_iter().map(|traced| traced.item).collect(), traceparent)
}

fn refuse_all<T>(count: usize, error: &ServerError) -> Results<T> {
    (0..count).map(|_| Err(error.clone())).collect()
}

/// A run with a key of its own, where nothing else tells this start from the next one.
pub(super) fn new_run(run: CreateRun) -> NewRun {
    // Ascending, so that a store's index grows at its end.
    let key = || format!("{:012x}{:016x}", SystemClock.now().as_millis(), SystemEntropy.next_u64());
    NewRun { key: run.reference.is_none().then(key), run }
}

/// Sends items as one request, one answer for each. When the request as a whole is refused, one item of it may be
/// the reason: then each is sent by itself.
async fn each<I, C, T>(
    shared: &Arc<Shared>,
    items: Vec<I>,
    traceparent: Option<HeaderValue>,
    call: impl Fn(Vec<I>) -> C,
    told: fn(&Shared, GaveUp) -> ServerError,
) -> Results<T>
where
    I: Clone,
    C: Call<Answer = Vec<T>>,
{
    let count = items.len();
    let alone = (count > 1).then(|| items.clone());
    match shared.try_call(&call(items), Repeat::Safe, Duration::ZERO, traceparent).await {
        Ok(answers) if answers.len() == count => answers.into_iter().map(Ok).collect(),
        Ok(answers) => {
            let text = format!("{} answers for {count} items of {}", answers.len(), C::PROCEDURE);
            refuse_all(count, &ServerError::Internal(text))
        }
        Err(GaveUp {
            failure: Failure::Refused(ServerError::Invalid(_)) | Failure::Coded(..) | Failure::Foreign(_),
            ..
        }) if let Some(items) = alone => {
            let mut results = Vec::with_capacity(count);
            for item in items {
                let answer = shared.try_call(&call(vec![item]), Repeat::Safe, Duration::ZERO, None).await;
                results.push(answer.map_err(|gave_up| told(shared, gave_up)).and_then(
                    |mut answers| match answers.len() {
                        1 => Ok(answers.swap_remove(0)),
                        _ => Err(ServerError::Internal(format!("no answer for an item of {}", C::PROCEDURE))),
                    },
                ));
            }
            results
        }
        Err(gave_up) => refuse_all(count, &told(shared, gave_up)),
    }
}
