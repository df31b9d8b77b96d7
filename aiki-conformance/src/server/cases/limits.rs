//! Deadlines, checkpoints, continuing as new, and runs that share a limit.

use std::time::Duration;

use aiki_core::run::head::ConcurrencyKey;
use aiki_core::run::plan::{CreateRun, DEADLINE_EXCEEDED, Deadline, RunCommand};
use aiki_core::run::record::TransitionChange;
use aiki_core::run::{FailureCause, QueuedReason, RunStatus, SleepState, TaskStatus};
use aiki_core::server_client::ClaimOutcome;
use aiki_core::{Client, ErrorObject, Payload, Priority, RunId, RunRecord, RunState, ServerError, Transition};

use crate::server::{
    LEASE, Pass, ServerHarness, claim, create, create_as, ready_request, request, send, status, try_claim,
};

const SECOND: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(20);

async fn record(client: &Client, run: RunId) -> RunRecord {
    client.server().get_run(run).await.unwrap()
}

fn within(limit: Duration) -> CreateRun {
    CreateRun { deadline: Some(Deadline::Within(limit)), ..request("1") }
}

pub async fn a_deadline_ends_a_run_wherever_it_stands(harness: &impl ServerHarness) {
    let client = harness.client();
    let deadline = harness.now().after(LIMIT);
    let at = CreateRun { deadline: Some(Deadline::At(deadline)), ..request("1") };
    let queued = create_as(&client, at).await;
    let scheduled = create_as(&client, CreateRun { delay: LIMIT * 2, ..within(LIMIT) }).await;
    let paused = create_as(&client, within(LIMIT)).await;
    client.server().command_run(paused, RunCommand::Pause).await.unwrap();
    let running = create_as(&client, within(LIMIT)).await;
    let mut held = claim(&client, "w", running).await;
    held.report(vec![held.open(0), Pass::sleep(0, LIMIT * 2)]).await;
    let mut runs = vec![queued, scheduled, paused, running];
    let cause = FailureCause::Own(ErrorObject::new("E", "no"));
    let ways = [
        vec![Pass::sleep(0, LIMIT * 2), Transition::Suspended],
        vec![Pass::wait_for(0, "paid", None), Transition::Suspended],
        vec![Transition::RetryScheduled { cause, retry_in: LIMIT * 2 }],
    ];
    for transitions in ways {
        let run = create_as(&client, within(LIMIT)).await;
        claim(&client, "w", run).await.report(transitions).await;
        runs.push(run);
    }
    harness.advance(LIMIT - Duration::from_millis(1)).await;
    for run in &runs {
        let record = record(&client, *run).await;
        assert!(!record.state.is_terminal(), "{:?}", record.state);
        assert_eq!(record.deadline, Some(deadline));
    }
    harness.advance(Duration::from_millis(1)).await;
    for run in &runs {
        match record(&client, *run).await.state {
            RunState::Failed { cause: FailureCause::Own(error) } => assert_eq!(error.name, DEADLINE_EXCEEDED),
            other => panic!("{other:?}"),
        }
        assert_eq!(try_claim(&client, "w", *run).await, ClaimOutcome::Done);
    }
    assert_eq!(held.try_report(vec![held.complete(0, "1")]).await, Err(ServerError::ClaimLost(running)));
    let ended = record(&client, running).await;
    assert_eq!(ended.tasks[0].state.status(), TaskStatus::Discarded, "nothing is under way in a run that ended");
    assert!(matches!(ended.sleeps[0].state, SleepState::Cancelled { .. }));
    harness.advance(LIMIT * 3).await;
    assert_eq!(record(&client, running).await, ended, "and nothing comes after it");
}

pub async fn a_run_that_ends_in_time_has_no_deadline_any_more(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create_as(&client, within(LIMIT)).await;
    claim(&client, "w", run).await.finish().await;
    harness.advance(LIMIT * 2).await;
    assert_eq!(status(&client, run).await, RunStatus::Completed);
}

pub async fn a_deadline_in_the_past_is_refused(harness: &impl ServerHarness) {
    let client = harness.client();
    for deadline in [Deadline::At(harness.now()), Deadline::Within(Duration::ZERO)] {
        let refused = client.server().create_run(CreateRun { deadline: Some(deadline), ..request("1") }).await;
        assert!(matches!(refused, Err(ServerError::Invalid(_))), "{refused:?}");
    }
}

pub async fn a_checkpoint_lives_as_long_as_its_task(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    let mut pass = claim(&client, "w", run).await;
    let progress = |task, text: &str| {
        let checkpoint = Payload::from_json(text).unwrap();
        Transition::TaskProgressed { id: run.task(task), checkpoint }
    };
    let revision = pass.report(vec![pass.open(0), pass.open(1), progress(0, "1"), progress(1, "10")]).await.revision;
    let len = record(&client, run).await.history_len;
    let receipt = pass.report(vec![progress(0, "2")]).await;
    assert_eq!((receipt.revision, record(&client, run).await.history_len), (revision, len), "it is not history");
    let checkpoints = async || {
        let tasks = record(&client, run).await.tasks;
        tasks.into_iter().map(|task| task.checkpoint.map(|data| data.as_str().to_owned())).collect::<Vec<_>>()
    };
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(checkpoints().await, [text("2"), text("10")], "the latest counts");
    drop(client);
    harness.restart().await;
    let client = harness.client();
    harness.advance(LEASE).await;
    let mut pass = claim(&client, "w", run).await;
    let tasks = &pass.claimed.record.tasks;
    assert_eq!(tasks[0].checkpoint.as_ref().map(Payload::as_str), Some("2"), "the next attempt has it");
    let error = ErrorObject::new("E", "no");
    pass.report(vec![Transition::TaskParked { id: run.task(0), attempts: 1, error, retry_in: SECOND }]).await;
    pass.report(vec![pass.complete(1, "1")]).await;
    let tasks = record(&client, run).await.tasks;
    let left: Vec<_> = tasks.iter().map(|task| task.checkpoint.as_ref().map(Payload::as_str)).collect();
    assert_eq!(left, [Some("2"), None]);
    assert!(matches!(pass.try_report(vec![progress(1, "11")]).await, Err(ServerError::IllegalTransition(_))));
    let large = Payload::from_json(format!("\"{}\"", "x".repeat(harness.payload_limit()))).unwrap();
    let large = Transition::TaskProgressed { id: run.task(0), checkpoint: large };
    assert!(matches!(pass.try_report(vec![large]).await, Err(ServerError::Invalid(_))));
}

fn again(input: &str) -> Transition {
    Transition::ContinuedAsNew { input: Payload::from_json(input).ok(), events: Vec::new() }
}

pub async fn a_run_that_continues_as_new_begins_an_empty_history(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    let mut announced = 1;
    // Large enough for pages beside the row.
    let output = format!("\"{}\"", "x".repeat(3_000));
    for round in 0..4u32 {
        let mut pass = claim(&client, "w", run).await;
        let first = pass.claimed.record.ordinals;
        assert_eq!((first.tasks, first.sleeps, first.waits), (round * 2, round, round), "ordinals go on");
        let now = &pass.claimed.record;
        assert!(now.tasks.is_empty() && now.sleeps.is_empty() && now.waits.is_empty() && now.events.is_empty());
        assert_eq!((now.seen, now.attempts), (None, 1));
        pass.report(vec![pass.open(first.tasks), pass.complete(first.tasks, &output)]).await;
        pass.report(vec![pass.open(first.tasks + 1), Pass::sleep(first.sleeps, SECOND)]).await;
        pass.report(vec![Pass::wait_for(first.waits, "paid", None), again(&round.to_string())]).await;
        announced += 1;
        harness.recorder().announced(run, announced).await;
        let after = record(&client, run).await;
        assert_eq!(after.state, RunState::Queued { reason: QueuedReason::Recovery });
        assert_eq!(after.input.as_ref().map(Payload::as_str), Some(round.to_string().as_str()));
        assert!(after.history_len <= 3, "{}", after.history_len);
        let listed = client.server().list_transitions(run).await.unwrap();
        assert_eq!(listed.last().unwrap().id, after.state_transition_id);
        assert!(matches!(listed.last().unwrap().change, TransitionChange::Run(RunState::Queued { .. })));
        assert!(listed.len() <= 2, "{listed:?}");
    }
    // What was parked before is forgotten.
    let mut pass = claim(&client, "w", run).await;
    assert!(matches!(pass.try_report(vec![Transition::Suspended]).await, Err(ServerError::IllegalTransition(_))));
    let stale = Transition::SleepCompleted { ordinal: 0 };
    assert!(matches!(pass.try_report(vec![stale]).await, Err(ServerError::IllegalTransition(_))));
    harness.advance(SECOND * 2).await;
    drop(client);
    harness.restart().await;
    let client = harness.client();
    let after = record(&client, run).await;
    assert_eq!((after.ordinals.tasks, after.tasks.len()), (8, 0));
    harness.advance(LEASE).await;
    claim(&client, "w", run).await.finish().await;
}

pub async fn signals_that_a_worker_has_not_seen_outlive_its_continuing_as_new(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    let mut pass = claim(&client, "w", run).await;
    pass.report(vec![pass.open(0), pass.complete(0, "1")]).await;
    send(&client, run, "paid").await;
    pass.report(vec![again("2")]).await;
    assert_eq!(status(&client, run).await, RunStatus::Queued);
    let mut pass = claim(&client, "w", run).await;
    let seen = &pass.claimed.record;
    assert_eq!((seen.tasks.len(), seen.events.len()), (1, 1), "it has to look at the event first");
    assert_eq!(seen.input.as_ref().map(Payload::as_str), Some("{\"order\":1}"));
    assert_eq!(seen.seen, Some(1), "what it did before is replayed in silence");
    let events = seen.events.clone();
    pass.report(vec![Transition::ContinuedAsNew { input: Payload::from_json("2").ok(), events }]).await;
    send(&client, run, "shipped").await;
    let mut pass = claim(&client, "w", run).await;
    let carried: Vec<_> = pass.claimed.record.events.iter().map(|event| event.name.clone()).collect();
    assert_eq!((carried, pass.signals), (vec!["paid".to_owned(), "shipped".into()], 2));
    assert_eq!(pass.claimed.record.input.as_ref().map(Payload::as_str), Some("2"));
    let took = vec![Pass::wait_for(0, "shipped", None), Transition::WaitCompleted { ordinal: 0, event: Some(1) }];
    pass.report(took).await;
    assert_eq!(client.server().get_signals(run, 1).await.unwrap().len(), 1);
    pass.finish().await;
}

/// A run that shares a limit under the key `tenant`.
fn limited(limit: u32) -> CreateRun {
    CreateRun { concurrency: Some(ConcurrencyKey { key: "tenant".into(), limit }), ..request("1") }
}

async fn held_back(client: &Client, run: RunId) -> bool {
    let outcome = try_claim(client, "w", run).await;
    assert!(matches!(outcome, ClaimOutcome::Done | ClaimOutcome::Granted(_)), "{outcome:?}");
    outcome == ClaimOutcome::Done
}

pub async fn runs_of_one_key_go_one_at_a_time_by_urgency_and_age(harness: &impl ServerHarness) {
    let client = harness.client();
    let holder = create_as(&client, limited(1)).await;
    let pass = claim(&client, "w", holder).await;
    let mut waiting = Vec::new();
    for priority in [Priority::Low, Priority::Normal, Priority::High, Priority::Normal] {
        let run = create_as(&client, CreateRun { priority, ..limited(1) }).await;
        assert!(held_back(&client, run).await);
        harness.recorder().announced(run, 1).await;
        waiting.push(run);
        harness.advance(Duration::from_millis(1)).await;
    }
    // Another key, and none, are not concerned.
    let other = ConcurrencyKey { key: "other".into(), limit: 1 };
    let other = create_as(&client, CreateRun { concurrency: Some(other), ..request("1") }).await;
    claim(&client, "w", other).await.finish().await;
    let free = create(&client).await;
    claim(&client, "w", free).await.finish().await;
    // What is held back is not offered, and not announced by its age.
    harness.advance(SECOND * 10).await;
    let ready = client.server().claim_ready(ready_request("v", 10)).await.unwrap();
    assert!(ready.is_empty(), "{ready:?}");
    assert!(waiting.iter().all(|run| harness.recorder().count(*run) == 1));
    pass.finish().await;
    for next in [2, 1, 3, 0] {
        let run = waiting[next];
        harness.recorder().announced(run, 2).await;
        let pass = claim(&client, "w", run).await;
        let others = waiting.iter().filter(|other| **other != run);
        for other in others {
            assert!(held_back(&client, *other).await, "one at a time");
        }
        pass.finish().await;
    }
    assert!(waiting.iter().all(|run| harness.recorder().count(*run) == 2), "each was let in once");
}

pub async fn a_run_that_waits_long_is_not_overtaken_for_ever(harness: &impl ServerHarness) {
    let client = harness.client();
    let holder = create_as(&client, limited(1)).await;
    let mut pass = claim(&client, "w", holder).await;
    let low = create_as(&client, CreateRun { priority: Priority::Low, ..limited(1) }).await;
    assert!(held_back(&client, low).await);
    for _ in 0..9 {
        harness.advance(LEASE / 2).await;
        client.server().refresh_runs(&"w".into(), &[pass.claim()], LEASE).await.unwrap();
    }
    let high = create_as(&client, CreateRun { priority: Priority::High, ..limited(1) }).await;
    assert!(held_back(&client, high).await);
    pass.report(vec![Transition::Completed { output: None }]).await;
    harness.recorder().announced(low, 2).await;
    claim(&client, "w", low).await.finish().await;
    claim(&client, "w", high).await.finish().await;
}

pub async fn a_limit_of_two_lets_two_work(harness: &impl ServerHarness) {
    let client = harness.client();
    let mut runs = Vec::new();
    for _ in 0..5 {
        runs.push(create_as(&client, limited(2)).await);
    }
    let (first, second) = (claim(&client, "w", runs[0]).await, claim(&client, "w", runs[1]).await);
    for run in &runs[2..] {
        assert!(held_back(&client, *run).await);
    }
    first.finish().await;
    let third = claim(&client, "w", runs[2]).await;
    assert!(held_back(&client, runs[3]).await);
    second.finish().await;
    third.finish().await;
    claim(&client, "w", runs[3]).await.finish().await;
    claim(&client, "w", runs[4]).await.finish().await;
}

pub async fn a_holder_that_does_not_work_frees_its_place(harness: &impl ServerHarness) {
    let client = harness.client();
    let server = client.server();
    for way in 0..6 {
        let holder = create_as(&client, limited(1)).await;
        let mut pass = claim(&client, "w", holder).await;
        let next = create_as(&client, limited(1)).await;
        assert!(held_back(&client, next).await);
        match way {
            0 => server.cancel_run(holder, None).await.unwrap(),
            1 => server.command_run(holder, RunCommand::Pause).await.unwrap(),
            2 => drop(pass.report(vec![Pass::sleep(0, SECOND * 600), Transition::Suspended]).await),
            3 => drop(pass.report(vec![Pass::wait_for(0, "paid", None), Transition::Suspended]).await),
            4 => drop(server.release_runs(&"w".into(), &[pass.claim()]).await.unwrap()),
            _ => harness.advance(LEASE).await,
        }
        harness.recorder().announced(next, 2).await;
        let next = claim(&client, "w", next).await;
        let status = status(&client, holder).await;
        if status == RunStatus::Queued {
            assert!(held_back(&client, holder).await, "way {way}: it waits for its place now");
        }
        next.finish().await;
        if status == RunStatus::Queued {
            claim(&client, "w", holder).await.finish().await;
        }
    }
}

pub async fn a_run_that_was_let_in_and_is_cancelled_lets_the_next_one_in(harness: &impl ServerHarness) {
    let client = harness.client();
    let mut runs = Vec::new();
    for _ in 0..4 {
        runs.push(create_as(&client, limited(1)).await);
    }
    let pass = claim(&client, "w", runs[0]).await;
    for run in &runs[1..] {
        assert!(held_back(&client, *run).await);
    }
    // One that waits may go; it holds nothing.
    client.server().cancel_run(runs[1], None).await.unwrap();
    assert!(held_back(&client, runs[2]).await);
    pass.finish().await;
    harness.recorder().announced(runs[2], 2).await;
    client.server().command_run(runs[2], RunCommand::Pause).await.unwrap();
    harness.recorder().announced(runs[3], 2).await;
    claim(&client, "w", runs[3]).await.finish().await;
    client.server().command_run(runs[2], RunCommand::Resume).await.unwrap();
    claim(&client, "w", runs[2]).await.finish().await;
}

pub async fn a_lower_limit_waits_and_keeps_nobody_else_waiting(harness: &impl ServerHarness) {
    let client = harness.client();
    let mut holders = Vec::new();
    for _ in 0..3 {
        let run = create_as(&client, limited(3)).await;
        holders.push(claim(&client, "w", run).await);
    }
    let alone = create_as(&client, limited(1)).await;
    let social = create_as(&client, limited(3)).await;
    assert!(held_back(&client, alone).await && held_back(&client, social).await);
    holders.pop().unwrap().finish().await;
    harness.recorder().announced(social, 2).await;
    holders.push(claim(&client, "w", social).await);
    assert!(held_back(&client, alone).await);
    for holder in holders {
        assert!(held_back(&client, alone).await);
        holder.finish().await;
    }
    claim(&client, "w", alone).await.finish().await;
}

pub async fn a_restart_remembers_who_holds_and_who_waits(harness: &impl ServerHarness) {
    let client = harness.client();
    let holder = create_as(&client, limited(1)).await;
    claim(&client, "w", holder).await;
    let next = create_as(&client, limited(1)).await;
    assert!(held_back(&client, next).await);
    drop(client);
    harness.restart().await;
    let client = harness.client();
    if !harness.workers_end_with_server() {
        harness.advance(LEASE).await;
    }
    // The holder's worker is gone: both are ready, and one at a time goes.
    let pass = claim(&client, "w", next).await;
    assert!(held_back(&client, holder).await);
    drop(client);
    pass.finish().await;
    let client = harness.client();
    claim(&client, "w", holder).await.finish().await;
}

pub async fn runs_that_have_to_wait_hide_none_behind_them(harness: &impl ServerHarness) {
    let client = harness.client();
    let holder = create_as(&client, limited(1)).await;
    let pass = claim(&client, "w", holder).await;
    for _ in 0..5 {
        create_as(&client, limited(1)).await;
    }
    let free = create(&client).await;
    harness.advance(SECOND).await;
    let ready = client.server().claim_ready(ready_request("v", 1)).await.unwrap();
    assert_eq!(ready.iter().map(|claimed| claimed.record.id).collect::<Vec<_>>(), [free]);
    pass.finish().await;
}

pub async fn a_limit_of_nothing_is_refused(harness: &impl ServerHarness) {
    let client = harness.client();
    let nameless = ConcurrencyKey { key: String::new(), limit: 1 };
    for bad in [limited(0), CreateRun { concurrency: Some(nameless), ..request("1") }] {
        let refused = client.server().create_run(bad).await;
        assert!(matches!(refused, Err(ServerError::Invalid(_))), "{refused:?}");
    }
}
