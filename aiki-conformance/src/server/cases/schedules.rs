//! What starts runs by the calendar.

use std::time::Duration;

use aiki_core::hash::input_hash;
use aiki_core::report::ChildStart;
use aiki_core::run::plan::CreateRun;
use aiki_core::run::{ConflictPolicy, QueuedReason, Reference, RunOptions, RunStatus};
use aiki_core::schedule::{ActivateSchedule, ScheduleFilter};
use aiki_core::server_client::{ClaimReady, ClaimStatus};
use aiki_core::{
    Client, Name, OverlapPolicy, Payload, RunRecord, RunState, ScheduleId, ScheduleRecord, ScheduleSpec,
    ScheduleStatus, ServerError, Timestamp, Transition,
};

use crate::server::{LEASE, ServerHarness, claim, request, workflow};

const TEN: Duration = Duration::from_secs(10);

fn asking(spec: ScheduleSpec, input: &str) -> ActivateSchedule {
    let hash = input_hash(Some(input)).unwrap();
    ActivateSchedule::new(workflow(), spec, Payload::from_json(input).ok(), hash)
}

fn named(spec: ScheduleSpec, input: &str, id: &str, conflict_policy: ConflictPolicy) -> ActivateSchedule {
    let reference = Some(Reference { id: id.into(), conflict_policy });
    ActivateSchedule { reference, ..asking(spec, input) }
}

async fn activate(client: &Client, request: ActivateSchedule) -> ScheduleRecord {
    client.server().activate_schedule(request).await.unwrap_or_else(|error| panic!("not activated: {error}"))
}

async fn every(client: &Client, interval: Duration, policy: OverlapPolicy) -> ScheduleRecord {
    activate(client, asking(ScheduleSpec::every(interval).overlap(policy), "1")).await
}

async fn get(client: &Client, id: ScheduleId) -> ScheduleRecord {
    client.server().get_schedule(id).await.unwrap()
}

async fn set(client: &Client, id: ScheduleId, status: ScheduleStatus) {
    assert_eq!(client.server().set_schedule_status(id, status).await.unwrap().status, status);
}

/// The run of an occurrence.
async fn run_at(client: &Client, schedule: &ScheduleRecord, at: Timestamp) -> Option<RunRecord> {
    let reference = schedule.run_reference(at);
    match client.server().get_run_by_reference(&schedule.workflow, &reference).await {
        Ok(run) => Some(run),
        Err(ServerError::ReferenceNotFound { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

async fn advance_to(harness: &impl ServerHarness, at: Timestamp) {
    harness.advance(at.since(harness.now())).await;
}

fn just_before(at: Timestamp) -> Timestamp {
    Timestamp::from_millis(at.as_millis() - 1)
}

pub async fn an_interval_fires_in_the_millisecond_that_is_due(harness: &impl ServerHarness) {
    let client = harness.client();
    let schedule = every(&client, TEN, OverlapPolicy::Skip).await;
    let due = schedule.created_at.after(TEN);
    assert_eq!((schedule.next_run_at, schedule.last_occurrence, schedule.run_count), (due, None, 0));
    advance_to(harness, just_before(due)).await;
    assert_eq!(run_at(&client, &schedule, due).await, None);
    advance_to(harness, due).await;
    let run = run_at(&client, &schedule, due).await.unwrap();
    harness.recorder().announced(run.id, 1).await;
    assert_eq!(run.state, RunState::Queued { reason: QueuedReason::New });
    assert_eq!((run.created_at, run.revision, run.attempts), (due, 0, 1));
    assert_eq!((run.schedule, run.input, run.input_hash), (Some(schedule.id), schedule.input, schedule.input_hash));
    let after = get(&client, schedule.id).await;
    assert_eq!((after.last_occurrence, after.next_run_at), (Some(due), due.after(TEN)));
    assert_eq!((after.run_count, after.last_run, after.updated_at), (1, Some(run.id), due));
    // Its worker sees an ordinary run.
    claim(&client, "w", run.id).await.finish().await;
}

pub async fn a_cron_expression_fires_in_the_millisecond_that_is_due(harness: &impl ServerHarness) {
    let client = harness.client();
    for policy in [OverlapPolicy::Skip, OverlapPolicy::CancelPrevious, OverlapPolicy::Allow] {
        let spec = ScheduleSpec::cron("*/5 * * * *").overlap(policy);
        let schedule = activate(&client, asking(spec, "1")).await;
        let due = Timestamp::from_millis((harness.now().as_millis() / 300_000 + 1) * 300_000);
        assert_eq!(schedule.next_run_at, due);
        advance_to(harness, just_before(due)).await;
        assert_eq!(get(&client, schedule.id).await.run_count, 0, "{policy:?}");
        advance_to(harness, due).await;
        assert!(run_at(&client, &schedule, due).await.is_some(), "{policy:?}");
        assert_eq!(get(&client, schedule.id).await.run_count, 1, "{policy:?}");
    }
}

pub async fn a_cron_expression_means_the_time_of_its_zone(harness: &impl ServerHarness) {
    let client = harness.client();
    let nine = ScheduleSpec::cron("0 9 * * *");
    let utc = activate(&client, asking(nine.clone(), "1")).await;
    let india = activate(&client, asking(nine.timezone("Asia/Kolkata"), "1")).await;
    let of_the_day = |schedule: &ScheduleRecord| schedule.next_run_at.as_millis() % 86_400_000;
    assert_eq!(of_the_day(&utc), 9 * 3_600_000);
    assert_eq!(of_the_day(&india), 3 * 3_600_000 + 30 * 60_000);
}

pub async fn skip_leaves_occurrences_out_while_the_run_before_goes_on(harness: &impl ServerHarness) {
    let client = harness.client();
    let schedule = every(&client, TEN, OverlapPolicy::Skip).await;
    let first = schedule.next_run_at;
    advance_to(harness, first).await;
    let run = run_at(&client, &schedule, first).await.unwrap();
    harness.advance(TEN * 2).await;
    let skipping = get(&client, schedule.id).await;
    assert_eq!((skipping.run_count, skipping.last_occurrence), (1, Some(first)));
    assert_eq!(skipping.next_run_at, first.after(TEN * 3));
    claim(&client, "w", run.id).await.finish().await;
    harness.advance(TEN).await;
    assert!(run_at(&client, &schedule, first.after(TEN * 3)).await.is_some());
    assert_eq!(get(&client, schedule.id).await.run_count, 2);
}

pub async fn an_overlap_policy_that_is_not_given_is_skip(harness: &impl ServerHarness) {
    let client = harness.client();
    let schedule = activate(&client, asking(ScheduleSpec::every(TEN), "1")).await;
    harness.advance(TEN * 3).await;
    harness.advance(TEN).await;
    assert_eq!(get(&client, schedule.id).await.run_count, 1);
}

pub async fn cancel_previous_cancels_a_running_run_and_says_why(harness: &impl ServerHarness) {
    let client = harness.client();
    let schedule = every(&client, TEN, OverlapPolicy::CancelPrevious).await;
    let first = schedule.next_run_at;
    advance_to(harness, first).await;
    let run = run_at(&client, &schedule, first).await.unwrap();
    let mut pass = claim(&client, "w", run.id).await;
    pass.report(vec![pass.open(0)]).await;
    harness.advance(TEN).await;
    let explanation = Some("Schedule overlap policy".to_owned());
    assert_eq!(client.server().get_run(run.id).await.unwrap().state, RunState::Cancelled { explanation });
    let refreshed = client.server().refresh_runs(&Name::new("w"), &[pass.claim()], LEASE).await.unwrap();
    assert_eq!(refreshed, [ClaimStatus::Lost]);
    // The next one has a previous run that has ended by itself.
    let second = run_at(&client, &schedule, first.after(TEN)).await.unwrap();
    claim(&client, "w", second.id).await.finish().await;
    harness.advance(TEN).await;
    assert_eq!(client.server().get_run(second.id).await.unwrap().state.status(), RunStatus::Completed);
    assert_eq!(get(&client, schedule.id).await.run_count, 3);
}

pub async fn cancel_previous_sees_to_the_children_too(harness: &impl ServerHarness) {
    let client = harness.client();
    let schedule = every(&client, TEN, OverlapPolicy::CancelPrevious).await;
    advance_to(harness, schedule.next_run_at).await;
    let run = run_at(&client, &schedule, schedule.next_run_at).await.unwrap();
    let mut pass = claim(&client, "w", run.id).await;
    let CreateRun { workflow, input, input_hash, priority, .. } = request("\"child\"");
    let (reference, time_limit) = (None, None);
    let start =
        ChildStart { workflow, input, input_hash, reference, options: RunOptions::default(), priority, time_limit };
    pass.report(vec![Transition::ChildOpened { ordinal: 0, start: Box::new(start) }]).await;
    harness.advance(TEN).await;
    assert_eq!(client.server().get_run(run.id).await.unwrap().state.status(), RunStatus::Cancelled);
    // Past the time for which announced runs are left to those who listen.
    harness.advance(Duration::from_secs(2)).await;
    let workflows = vec![aiki_core::system::cancel_children_key()];
    let asked = ClaimReady { workflows, ..crate::server::ready_request("w", 5) };
    let claimed = client.server().claim_ready(asked).await.unwrap();
    let inputs: Vec<_> = claimed.iter().map(|claimed| claimed.record.input.clone()).collect();
    assert_eq!(inputs, [Payload::of(&run.id).ok()]);
}

pub async fn allow_starts_runs_beside_each_other(harness: &impl ServerHarness) {
    let client = harness.client();
    let schedule = every(&client, TEN, OverlapPolicy::Allow).await;
    // Nobody looked for 35 seconds: three are due at once.
    harness.advance(Duration::from_secs(35)).await;
    for n in 1..=3 {
        let run = run_at(&client, &schedule, schedule.created_at.after(TEN * n)).await.unwrap();
        assert_eq!(run.state, RunState::Queued { reason: QueuedReason::New });
    }
    let after = get(&client, schedule.id).await;
    assert_eq!((after.run_count, after.next_run_at), (3, schedule.created_at.after(TEN * 4)));
}

pub async fn allow_catches_up_with_everything_after_a_pause(harness: &impl ServerHarness) {
    let client = harness.client();
    let second = Duration::from_secs(1);
    let schedule = every(&client, second, OverlapPolicy::Allow).await;
    set(&client, schedule.id, ScheduleStatus::Paused).await;
    harness.advance(second * 250).await;
    let paused = get(&client, schedule.id).await;
    assert_eq!((paused.run_count, paused.next_run_at), (0, schedule.next_run_at));
    set(&client, schedule.id, ScheduleStatus::Active).await;
    // More than one commit's worth.
    harness.advance(Duration::ZERO).await;
    let after = get(&client, schedule.id).await;
    assert_eq!((after.run_count, after.last_occurrence), (250, Some(schedule.created_at.after(second * 250))));
    for n in [1, 100, 101, 200, 201, 250] {
        assert!(run_at(&client, &schedule, schedule.created_at.after(second * n)).await.is_some(), "{n}");
    }
}

pub async fn skip_and_cancel_previous_fire_once_after_a_pause(harness: &impl ServerHarness) {
    let client = harness.client();
    for policy in [OverlapPolicy::Skip, OverlapPolicy::CancelPrevious] {
        let schedule = every(&client, TEN, policy).await;
        set(&client, schedule.id, ScheduleStatus::Paused).await;
        harness.advance(Duration::from_secs(35)).await;
        set(&client, schedule.id, ScheduleStatus::Active).await;
        harness.advance(Duration::ZERO).await;
        let after = get(&client, schedule.id).await;
        let latest = schedule.created_at.after(TEN * 3);
        assert_eq!((after.run_count, after.last_occurrence), (1, Some(latest)), "{policy:?}");
        assert_eq!(after.next_run_at, latest.after(TEN), "{policy:?}");
    }
}

pub async fn a_schedule_that_is_paused_or_deactivated_starts_nothing(harness: &impl ServerHarness) {
    let client = harness.client();
    for (status, input) in [(ScheduleStatus::Paused, "1"), (ScheduleStatus::Inactive, "2")] {
        let schedule = activate(&client, asking(ScheduleSpec::every(TEN), input)).await;
        set(&client, schedule.id, status).await;
        // Twice is as good as once.
        set(&client, schedule.id, status).await;
        harness.advance(TEN * 3).await;
        assert_eq!(get(&client, schedule.id).await.run_count, 0, "{status:?}");
    }
}

pub async fn the_same_definition_is_the_same_schedule(harness: &impl ServerHarness) {
    let client = harness.client();
    let schedule = every(&client, TEN, OverlapPolicy::Skip).await;
    harness.advance(Duration::from_secs(4)).await;
    assert_eq!(every(&client, TEN, OverlapPolicy::Skip).await, schedule, "nothing changes");
    // Every part of it counts.
    let spec = ScheduleSpec::every(TEN).overlap(OverlapPolicy::Skip);
    let options = Some(RunOptions::default());
    for other in [
        asking(ScheduleSpec::every(TEN), "1"),
        asking(spec.clone(), "2"),
        ActivateSchedule { options, ..asking(spec.clone(), "1") },
    ] {
        assert_ne!(activate(&client, other).await.id, schedule.id);
    }
    // An older hash of the same input counts as equal, and the new one is kept.
    let hash = input_hash(Some("\"rotated\"")).unwrap();
    let deprecated_hashes = vec![schedule.input_hash.clone()];
    let rotated = ActivateSchedule { input_hash: hash.clone(), deprecated_hashes, ..asking(spec, "1") };
    let found = activate(&client, rotated).await;
    assert_eq!((found.id, found.input_hash), (schedule.id, hash));
}

pub async fn a_deactivated_schedule_comes_back_and_keeps_its_anchor(harness: &impl ServerHarness) {
    let client = harness.client();
    let schedule = every(&client, TEN, OverlapPolicy::Skip).await;
    advance_to(harness, schedule.next_run_at).await;
    set(&client, schedule.id, ScheduleStatus::Inactive).await;
    harness.advance(Duration::from_secs(33)).await;
    let back = every(&client, TEN, OverlapPolicy::Skip).await;
    assert_eq!((back.id, back.status, back.run_count), (schedule.id, ScheduleStatus::Active, 1));
    assert_eq!((back.last_occurrence, back.next_run_at), (Some(schedule.next_run_at), harness.now().after(TEN)));
}

pub async fn a_reference_with_another_definition_is_a_conflict(harness: &impl ServerHarness) {
    let client = harness.client();
    let (ten, twenty) = (ScheduleSpec::every(TEN), ScheduleSpec::every(TEN * 2));
    let schedule = activate(&client, named(ten.clone(), "1", "daily", ConflictPolicy::Error)).await;
    assert_eq!(client.server().get_schedule_by_reference("daily").await.unwrap(), schedule);
    let again = activate(&client, named(ten, "1", "daily", ConflictPolicy::Error)).await;
    assert_eq!(again, schedule);
    let other = named(twenty.clone(), "1", "daily", ConflictPolicy::Error);
    let refused = client.server().activate_schedule(other).await.unwrap_err();
    let text = refused.to_string();
    assert!(matches!(refused, ServerError::ScheduleConflict { schedule: id, .. } if id == schedule.id), "{text}");
    assert!(text.contains("`daily`") && text.contains("ReturnExisting"), "{text}");
    let kept = activate(&client, named(twenty, "1", "daily", ConflictPolicy::ReturnExisting)).await;
    assert_eq!(kept, schedule, "as it was");
}

pub async fn a_reference_is_given_to_a_schedule_without_one(harness: &impl ServerHarness) {
    let client = harness.client();
    let spec = ScheduleSpec::every(TEN);
    let schedule = activate(&client, asking(spec.clone(), "1")).await;
    set(&client, schedule.id, ScheduleStatus::Paused).await;
    let adopted = activate(&client, named(spec.clone(), "1", "a", ConflictPolicy::Error)).await;
    assert_eq!((adopted.id, adopted.reference_id.as_deref()), (schedule.id, Some("a")));
    assert_eq!(adopted.status, ScheduleStatus::Active);
    // Without a reference it is found all the same, with another one it is somebody else's.
    assert_eq!(activate(&client, asking(spec.clone(), "1")).await.id, schedule.id);
    let other = named(spec, "1", "b", ConflictPolicy::ReturnExisting);
    let refused = client.server().activate_schedule(other).await;
    assert!(
        matches!(&refused, Err(ServerError::ScheduleConflict { schedule: id, .. }) if *id == schedule.id),
        "{refused:?}"
    );
}

pub async fn concurrent_activations_of_one_definition_make_one_schedule(harness: &impl ServerHarness) {
    let client = harness.client();
    let ask = || every(&client, TEN, OverlapPolicy::Allow);
    let (a, b, c, d) = tokio::join!(ask(), ask(), ask(), ask());
    assert!([b.id, c.id, d.id].iter().all(|id| *id == a.id));
    let listed = client.server().list_schedules(ScheduleFilter::default(), 10, 0).await.unwrap();
    assert_eq!(listed.total, 1);
}

pub async fn a_cron_expression_or_zone_that_cannot_be_used_is_refused_by_its_part(harness: &impl ServerHarness) {
    let client = harness.client();
    let cron = ScheduleSpec::cron;
    for (spec, wanted) in [
        (cron("61 * * * *"), "the minute `61`"),
        (cron("0 0 31 2 *"), "`0 0 31 2 *` never occurs"),
        (cron("0 9 * * * * *"), "has 7 fields"),
        (cron(""), "expression is empty"),
        (cron("0 9 * * *").timezone("Mars/Base"), "no time zone `Mars/Base`"),
        (ScheduleSpec::every(Duration::ZERO), "give"),
    ] {
        let refused = client.server().activate_schedule(asking(spec, "1")).await;
        assert!(matches!(&refused, Err(ServerError::Invalid(text)) if text.contains(wanted)), "{wanted}: {refused:?}");
    }
    let long = "x".repeat(300);
    let refused = client.server().activate_schedule(named(cron("@daily"), "1", &long, ConflictPolicy::Error)).await;
    assert!(matches!(&refused, Err(ServerError::Invalid(text)) if text.contains("the reference id")), "{refused:?}");
    let large = format!("\"{}\"", "x".repeat(harness.payload_limit()));
    let refused = client.server().activate_schedule(asking(cron("@daily"), &large)).await;
    assert!(matches!(&refused, Err(ServerError::Invalid(_))), "{refused:?}");
    let listed = client.server().list_schedules(ScheduleFilter::default(), 10, 0).await.unwrap();
    assert_eq!((listed.schedules.len(), listed.total), (0, 0), "nothing was stored");
}

pub async fn the_runs_of_a_schedule_have_its_options(harness: &impl ServerHarness) {
    let client = harness.client();
    let options = Some(RunOptions { retry: None, pool: Some(Name::new("gpu")) });
    let schedule = activate(&client, ActivateSchedule { options, ..asking(ScheduleSpec::every(TEN), "1") }).await;
    harness.advance(TEN).await;
    // Past the time for which announced runs are left to those who listen.
    harness.advance(Duration::from_secs(2)).await;
    let ready = crate::server::ready_request("w", 5);
    assert!(client.server().claim_ready(ready.clone()).await.unwrap().is_empty());
    let pools = vec![Name::new("gpu")];
    let claimed = client.server().claim_ready(ClaimReady { pools, ..ready }).await.unwrap();
    assert_eq!(claimed.iter().map(|run| run.record.schedule).collect::<Vec<_>>(), [Some(schedule.id)]);
}

pub async fn a_run_that_has_the_reference_of_an_occurrence_stands_for_it(harness: &impl ServerHarness) {
    let client = harness.client();
    let schedule = every(&client, TEN, OverlapPolicy::Allow).await;
    let reference = Reference { id: schedule.run_reference(schedule.next_run_at), conflict_policy: Default::default() };
    let taken = CreateRun { reference: Some(reference), ..request("\"mine\"") };
    let taken = client.server().create_run(taken).await.unwrap().id;
    harness.advance(TEN * 2).await;
    let after = get(&client, schedule.id).await;
    assert_eq!((after.run_count, after.next_run_at), (1, schedule.next_run_at.after(TEN * 2)));
    assert_eq!(run_at(&client, &schedule, schedule.next_run_at).await.unwrap().id, taken);
}

pub async fn schedules_are_listed_by_age_and_filtered(harness: &impl ServerHarness) {
    let client = harness.client();
    let mut ids = Vec::new();
    for n in 0..5 {
        let asked = named(ScheduleSpec::every(TEN), &n.to_string(), &format!("r{n}"), ConflictPolicy::Error);
        ids.push(activate(&client, asked).await.id);
        harness.advance(Duration::from_millis(5)).await;
    }
    set(&client, ids[1], ScheduleStatus::Paused).await;
    let list = async |filter, limit, offset| {
        let page = client.server().list_schedules(filter, limit, offset).await.unwrap();
        (page.schedules.iter().map(|schedule| schedule.id).collect::<Vec<_>>(), page.total)
    };
    assert_eq!(list(ScheduleFilter::default(), 2, 1).await, (ids[1..3].to_vec(), 5));
    assert_eq!(list(ScheduleFilter::default(), 2, 9).await, (vec![], 5));
    let paused = ScheduleFilter { statuses: vec![ScheduleStatus::Paused], ..Default::default() };
    assert_eq!(list(paused, 5, 0).await, (vec![ids[1]], 1));
    let by_reference = ScheduleFilter { reference_id: Some("r3".into()), ..Default::default() };
    assert_eq!(list(by_reference, 5, 0).await, (vec![ids[3]], 1));
    let other = ScheduleFilter { workflows: vec![(Name::new("orders"), Some(Name::new("9")))], ..Default::default() };
    assert_eq!(list(other, 5, 0).await, (vec![], 0));
    let first = client.server().list_schedules(ScheduleFilter::default(), 1, 0).await.unwrap().schedules.remove(0);
    assert_eq!(first, get(&client, ids[0]).await, "whole, with its input");
    let refused = client.server().list_schedules(ScheduleFilter::default(), 1_001, 0).await;
    assert!(matches!(refused, Err(ServerError::Invalid(_))), "{refused:?}");
}

pub async fn namespaces_do_not_see_each_others_schedules(harness: &impl ServerHarness) {
    let (mine, other) = (harness.client(), harness.client_for(Name::new("other")));
    let asked = || named(ScheduleSpec::every(TEN), "1", "same", ConflictPolicy::Error);
    let schedule = activate(&mine, asked()).await;
    let not_found = |error: ServerError| assert!(matches!(error, ServerError::ScheduleNotFound(_)), "{error}");
    not_found(other.server().get_schedule(schedule.id).await.unwrap_err());
    not_found(other.server().get_schedule_by_reference("same").await.unwrap_err());
    not_found(other.server().set_schedule_status(schedule.id, ScheduleStatus::Paused).await.unwrap_err());
    assert_eq!(other.server().list_schedules(ScheduleFilter::default(), 5, 0).await.unwrap().total, 0);
    // The same definition and reference are another schedule there, with runs of its own.
    let theirs = activate(&other, asked()).await;
    assert_ne!(theirs.id, schedule.id);
    harness.advance(TEN).await;
    let run = run_at(&other, &theirs, theirs.next_run_at).await.unwrap();
    assert_eq!((run.namespace, run.schedule), (Name::new("other"), Some(theirs.id)));
    assert_eq!(run_at(&mine, &theirs, theirs.next_run_at).await, None);
    not_found(mine.server().get_schedule(ScheduleId::from_bits(7)).await.unwrap_err());
}
