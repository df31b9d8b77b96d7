//! Events: kept until somebody waits, and never lost to a race.

use std::time::Duration;

use aiki_core::run::plan::EventMessage;
use aiki_core::run::record::Signal;
use aiki_core::run::{FailureCause, QueuedReason, RunStatus, SleepState, WaitState};
use aiki_core::server_client::SendEvent;
use aiki_core::{Client, ErrorObject, Name, Payload, RunId, RunRecord, RunState, ServerError, Transition};

use crate::server::{Pass, ServerHarness, child_start, claim, create, event, send, status};

const SECOND: Duration = Duration::from_secs(1);

async fn record(client: &Client, run: RunId) -> RunRecord {
    client.server().get_run(run).await.unwrap()
}

async fn names(client: &Client, run: RunId) -> Vec<String> {
    record(client, run).await.events.into_iter().map(|event| event.name).collect()
}

/// A run that waits for `paid`.
async fn waiting(client: &Client, timeout: Option<Duration>) -> RunId {
    let run = create(client).await;
    let mut pass = claim(client, "w", run).await;
    pass.report(vec![Pass::wait_for(0, "paid", timeout), Transition::Suspended]).await;
    run
}

pub async fn an_event_that_comes_early_waits_on_record(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    send(&client, run, "paid").await;
    assert_eq!(status(&client, run).await, RunStatus::Queued, "it wakes nobody");
    let mut pass = claim(&client, "w", run).await;
    let received = &pass.claimed.record.events;
    assert_eq!((received.len(), received[0].name.as_str()), (1, "paid"));
    assert_eq!(received[0].data.as_ref().map(Payload::as_str), Some("\"paid\""));
    assert_eq!(received[0].received_at, harness.now());
    assert_eq!(pass.signals, 1);
    pass.report(vec![Pass::wait_for(0, "paid", None), Transition::WaitCompleted { ordinal: 0, event: Some(0) }]).await;
    let after = record(&client, run).await;
    assert_eq!(after.waits[0].state, WaitState::Completed { event: Some(0) });
    assert_eq!(after.waits[0].settled, Some(1));
    pass.finish().await;
}

pub async fn an_event_wakes_the_run_that_waits_for_it(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = waiting(&client, None).await;
    let state = RunState::AwaitingEvent { event: "paid".into(), timeout_at: None };
    assert_eq!(record(&client, run).await.state, state);
    send(&client, run, "shipped").await;
    assert_eq!(record(&client, run).await.state, state, "another event does not wake it");
    send(&client, run, "paid").await;
    assert_eq!(record(&client, run).await.state, RunState::Queued { reason: QueuedReason::Event });
    harness.recorder().announced(run, 2).await;
    let mut pass = claim(&client, "w", run).await;
    assert_eq!(pass.claimed.record.waits[0].state, WaitState::Waiting { timeout_at: None });
    pass.report(vec![Transition::WaitCompleted { ordinal: 0, event: Some(1) }]).await;
    assert_eq!(names(&client, run).await, ["shipped", "paid"], "in the order in which they came");
    pass.finish().await;
}

pub async fn an_event_that_races_with_the_suspension_is_not_lost(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    let mut pass = claim(&client, "w", run).await;
    send(&client, run, "paid").await;
    // The worker has not seen it.
    let receipt = pass.report(vec![Pass::wait_for(0, "paid", None), Transition::Suspended]).await;
    assert_eq!(receipt.signals, 1);
    assert_eq!(record(&client, run).await.state, RunState::Queued { reason: QueuedReason::Event });
    let mut pass = claim(&client, "w", run).await;
    assert_eq!(pass.signals, 1);
    // Now it has, and wants another one.
    pass.report(vec![Transition::WaitCompleted { ordinal: 0, event: Some(0) }, Pass::wait_for(1, "paid", None)]).await;
    pass.report(vec![Transition::Suspended]).await;
    assert_eq!(status(&client, run).await, RunStatus::AwaitingEvent, "what it has seen does not wake it");
    send(&client, run, "paid").await;
    assert_eq!(status(&client, run).await, RunStatus::Queued);
}

pub async fn an_event_does_not_end_a_sleep_or_a_pause(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    let mut pass = claim(&client, "w", run).await;
    pass.report(vec![Pass::sleep(0, SECOND), Transition::Suspended]).await;
    send(&client, run, "paid").await;
    assert_eq!(status(&client, run).await, RunStatus::Sleeping);
    let paused = create(&client).await;
    client.server().command_run(paused, aiki_core::run::plan::RunCommand::Pause).await.unwrap();
    send(&client, paused, "paid").await;
    assert_eq!(status(&client, paused).await, RunStatus::Paused);
    assert_eq!((names(&client, run).await, names(&client, paused).await), (vec!["paid".into()], vec!["paid".into()]));
}

pub async fn a_reference_id_is_accepted_once_for_each_name(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    let first = event(run, "paid", Some("a"));
    let mut again = first.clone();
    again.event.data = Payload::from_json("\"other\"").ok();
    client.server().send_event(first).await.unwrap();
    client.server().send_event(again.clone()).await.unwrap();
    for (name, reference) in [("paid", "b"), ("shipped", "a")] {
        client.server().send_event(event(run, name, Some(reference))).await.unwrap();
    }
    assert_eq!(names(&client, run).await, ["paid", "paid", "shipped"]);
    drop(client);
    harness.restart().await;
    let client = harness.client();
    client.server().send_event(again).await.unwrap();
    let after = record(&client, run).await.events;
    assert_eq!(after.len(), 3, "a restart forgets nothing");
    assert_eq!(after[0].data.as_ref().map(Payload::as_str), Some("\"paid\""), "the first one counts");
    assert_eq!(after[0].reference_id.as_deref(), Some("a"));
}

pub async fn concurrent_events_with_one_reference_id_count_once(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    let sends: Vec<_> = (0..30)
        .map(|n| {
            let client = client.clone();
            let event = event(run, "paid", Some(["a", "b", "c"][n % 3]));
            tokio::spawn(async move { client.server().send_event(event).await })
        })
        .collect();
    for send in sends {
        send.await.unwrap().unwrap();
    }
    let mut references: Vec<_> =
        record(&client, run).await.events.into_iter().map(|event| event.reference_id.unwrap()).collect();
    references.sort();
    assert_eq!(references, ["a", "b", "c"]);
}

pub async fn an_ended_run_takes_no_events(harness: &impl ServerHarness) {
    let client = harness.client();
    let failed = Transition::Failed { cause: FailureCause::Own(ErrorObject::new("E", "no")) };
    let ends = [(Transition::Completed { output: None }, RunStatus::Completed), (failed, RunStatus::Failed)];
    for (end, status) in ends {
        let run = create(&client).await;
        claim(&client, "w", run).await.report(vec![end]).await;
        let refused = client.server().send_event(event(run, "paid", Some("a"))).await;
        assert_eq!(refused, Err(ServerError::RunEnded { run, status }));
        assert!(names(&client, run).await.is_empty());
    }
    let run = create(&client).await;
    client.server().cancel_run(run, None).await.unwrap();
    let refused = client.server().send_event(event(run, "paid", None)).await;
    assert_eq!(refused, Err(ServerError::RunEnded { run, status: RunStatus::Cancelled }));
    let nobody = RunId::from_bits(77 << 24);
    let refused = client.server().send_event(event(nobody, "paid", None)).await;
    assert_eq!(refused, Err(ServerError::RunNotFound(nobody)));
    let run = create(&client).await;
    let refused = harness.client_for(Name::new("other")).server().send_event(event(run, "paid", None)).await;
    assert_eq!(refused, Err(ServerError::RunNotFound(run)));
}

pub async fn an_event_that_cannot_be_used_is_refused(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    let large = Payload::from_json(format!("\"{}\"", "x".repeat(harness.payload_limit()))).ok();
    let message = |name: &str, data, reference: Option<&str>| SendEvent {
        run,
        event: EventMessage { name: name.into(), data, reference_id: reference.map(Into::into) },
    };
    let long = "x".repeat(257);
    let bad =
        [message("", None, None), message(&long, None, None), message("a", None, Some("")), message("a", large, None)];
    for bad in bad {
        let refused = client.server().send_event(bad).await;
        assert!(matches!(refused, Err(ServerError::Invalid(_))), "{refused:?}");
    }
    client.server().send_event(message("a", Payload::from_json("null").ok(), None)).await.unwrap();
    client.server().send_event(message("a", None, None)).await.unwrap();
    let data: Vec<_> = record(&client, run).await.events.into_iter().map(|event| event.data).collect();
    assert_eq!(data, [Payload::from_json("null").ok(), None], "nothing and null are not the same");
}

pub async fn a_full_history_refuses_an_event_which_may_come_again(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    let mut pass = claim(&client, "w", run).await;
    let mut left = harness.history_limit() - record(&client, run).await.history_len;
    while left > 0 {
        let some = left.min(1_000);
        pass.report(vec![Transition::TimeRead { time: harness.now() }; some as usize]).await;
        left -= some;
    }
    let paid = event(run, "paid", Some("a"));
    let refused = client.server().send_event(paid.clone()).await;
    assert!(
        matches!(&refused, Err(ServerError::Invalid(reason)) if reason.contains("continues as new")),
        "{refused:?}"
    );
    assert!(names(&client, run).await.is_empty());
    pass.report(vec![Transition::ContinuedAsNew { input: None, events: Vec::new() }]).await;
    client.server().send_event(paid.clone()).await.unwrap();
    client.server().send_event(paid).await.unwrap();
    assert_eq!(names(&client, run).await, ["paid"]);
}

pub async fn a_history_over_its_limit_fails_the_run_and_says_why(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    let mut pass = claim(&client, "w", run).await;
    let mut left = harness.history_limit() + 1 - record(&client, run).await.history_len;
    while left > 0 {
        let some = left.min(1_000);
        pass.report(vec![Transition::TimeRead { time: harness.now() }; some as usize]).await;
        left -= some;
    }
    match record(&client, run).await.state {
        RunState::Failed { cause: FailureCause::Own(error) } => {
            assert_eq!(error.name, aiki_core::run::plan::HISTORY_LIMIT_EXCEEDED);
            assert!(error.message.contains("continue as new"), "{}", error.message);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(pass.try_report(vec![pass.open(0)]).await, Err(ServerError::ClaimLost(run)));
}

pub async fn a_wait_times_out_at_its_millisecond(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = waiting(&client, Some(SECOND * 5)).await;
    let timeout_at = harness.now().after(SECOND * 5);
    let state = RunState::AwaitingEvent { event: "paid".into(), timeout_at: Some(timeout_at) };
    assert_eq!(record(&client, run).await.state, state);
    harness.advance(Duration::from_millis(4_999)).await;
    assert_eq!(record(&client, run).await.state, state);
    harness.advance(Duration::from_millis(1)).await;
    let after = record(&client, run).await;
    assert_eq!(after.state, RunState::Queued { reason: QueuedReason::EventWaitTimeout });
    assert_eq!(after.waits[0].state, WaitState::TimedOut { timed_out_at: timeout_at });
    assert_eq!(after.waits[0].settled, Some(1));
    // Too late for this wait, in time for the next.
    send(&client, run, "paid").await;
    let after = record(&client, run).await;
    assert_eq!((after.events.len(), after.ordinals.signals), (1, 1));
    assert!(matches!(after.waits[0].state, WaitState::TimedOut { .. }));
}

pub async fn several_parked_steps_wake_the_run_one_by_one(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    let mut pass = claim(&client, "w", run).await;
    let child = pass.report(vec![Pass::start_child(0, child_start("1"))]).await.children[0].unwrap();
    let steps = vec![
        Pass::sleep(0, SECOND * 60),
        Pass::wait_for(0, "paid", Some(SECOND * 90)),
        Pass::wait_for_child(1, 0, Some(child), None),
        Transition::Suspended,
    ];
    pass.report(steps).await;
    assert_eq!(status(&client, run).await, RunStatus::Sleeping, "the earliest is shown");
    send(&client, run, "paid").await;
    assert_eq!(status(&client, run).await, RunStatus::Queued);
    let mut pass = claim(&client, "w", run).await;
    let took = Transition::WaitCompleted { ordinal: 0, event: Some(0) };
    pass.report(vec![took, Transition::Suspended]).await;
    assert_eq!(status(&client, run).await, RunStatus::Sleeping);
    claim(&client, "w", child).await.finish().await;
    assert_eq!(record(&client, run).await.state, RunState::Queued { reason: QueuedReason::ChildWorkflow });
    let mut pass = claim(&client, "w", run).await;
    pass.report(vec![Transition::WaitCompleted { ordinal: 1, event: None }, Transition::Suspended]).await;
    harness.advance(Duration::from_millis(59_999)).await;
    assert_eq!(status(&client, run).await, RunStatus::Sleeping);
    harness.advance(Duration::from_millis(1)).await;
    let after = record(&client, run).await;
    assert_eq!(after.state, RunState::Queued { reason: QueuedReason::Wakeup });
    assert!(matches!(after.sleeps[0].state, SleepState::Completed { .. }));
    let settled = (after.waits[0].settled, after.waits[1].settled, after.sleeps[0].settled);
    assert_eq!(settled, (Some(1), Some(2), Some(3)));
}

pub async fn signals_are_read_from_where_a_worker_stands(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    for name in ["a", "b", "c"] {
        send(&client, run, name).await;
    }
    let behind = async |known| {
        let signals = client.server().get_signals(run, known).await.unwrap();
        let name = |signal| match signal {
            Signal::Event(event) => event.name,
            Signal::ChildEnded { .. } => "child".into(),
        };
        signals.into_iter().map(name).collect::<Vec<String>>()
    };
    assert_eq!(behind(0).await, ["a", "b", "c"]);
    assert_eq!(behind(2).await, ["c"]);
    assert!(behind(3).await.is_empty());
    assert!(behind(9).await.is_empty());
}
