//! Schedules across restarts, clock changes and damage, on SQLite.
#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, reason = "for tests")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aiki_conformance::server::{ServerHarness, request, workflow};
use aiki_core::run::plan::CreateRun;
use aiki_core::schedule::ActivateSchedule;
use aiki_core::{Client, OverlapPolicy, RunId, ScheduleRecord, ScheduleSpec, ScheduleStatus, ServerError};
use rusqlite::{Connection, params};
use support::{Kept, ManualClock};

const TEN: Duration = Duration::from_secs(10);

async fn activate(client: &Client, spec: ScheduleSpec, input: &str) -> ScheduleRecord {
    let CreateRun { input, input_hash, .. } = request(input);
    client.server().activate_schedule(ActivateSchedule::new(workflow(), spec, input, input_hash)).await.unwrap()
}

async fn get(client: &Client, schedule: &ScheduleRecord) -> ScheduleRecord {
    client.server().get_schedule(schedule.id).await.unwrap()
}

/// The runs of the first `count` occurrences of an interval of ten seconds; fails when one is missing.
async fn runs(client: &Client, schedule: &ScheduleRecord, count: u32) -> Vec<RunId> {
    let mut runs = Vec::new();
    for n in 1..=count {
        let reference = schedule.run_reference(schedule.created_at.after(TEN * n));
        let run = client.server().get_run_by_reference(&schedule.workflow, &reference).await;
        runs.push(run.unwrap_or_else(|error| panic!("occurrence {n}: {error}")).id);
    }
    runs
}

fn database(path: &Path, sql: &str, schedule: &ScheduleRecord) {
    let database = Connection::open(path).unwrap();
    assert_eq!(database.execute(sql, params![schedule.id.to_bytes()]).unwrap(), 1);
}

#[tokio::test]
async fn a_restart_neither_loses_nor_repeats_an_occurrence() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("aiki.db");
    let clock = Arc::<ManualClock>::default();
    let first = Kept::sqlite_at(&path, clock.clone()).await;
    let spec = ScheduleSpec::every(TEN).overlap(OverlapPolicy::Allow);
    let schedule = activate(&first.client(), spec.clone(), "1").await;
    first.advance(Duration::from_secs(25)).await;
    let before = runs(&first.client(), &schedule, 2).await;
    first.server().close().await;

    // Nobody is there for thirty seconds.
    clock.step(Duration::from_secs(30));
    let second = Kept::sqlite_at(&path, clock.clone()).await;
    let client = second.client();
    second.server().run_due_timers().await.unwrap();
    let after = runs(&client, &schedule, 5).await;
    assert_eq!(after[..2], before);
    let record = get(&client, &schedule).await;
    assert_eq!((record.run_count, record.next_run_at), (5, schedule.created_at.after(TEN * 6)));
    second.server().close().await;

    // Started again at once there is nothing to do; the same program finds its schedule.
    let third = Kept::sqlite_at(&path, clock).await;
    third.server().run_due_timers().await.unwrap();
    assert_eq!(activate(&third.client(), spec, "1").await, record);
}

#[tokio::test]
async fn a_paused_schedule_is_paused_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("aiki.db");
    let clock = Arc::<ManualClock>::default();
    let first = Kept::sqlite_at(&path, clock.clone()).await;
    let schedule = activate(&first.client(), ScheduleSpec::every(TEN), "{\"long\":\"input\"}").await;
    first.client().schedule(schedule.id).pause().await.unwrap();
    first.server().close().await;
    let second = Kept::sqlite_at(&path, clock).await;
    second.advance(TEN * 3).await;
    let record = get(&second.client(), &schedule).await;
    assert_eq!((record.status, record.run_count), (ScheduleStatus::Paused, 0));
    assert_eq!(record.input, schedule.input);
    second.client().schedule(schedule.id).resume().await.unwrap();
    second.server().run_due_timers().await.unwrap();
    let record = get(&second.client(), &schedule).await;
    assert_eq!((record.status, record.run_count), (ScheduleStatus::Active, 1));
}

#[tokio::test]
async fn a_clock_that_steps_back_repeats_nothing() {
    let server = Kept::sqlite().await;
    let client = server.client();
    let spec = ScheduleSpec::every(TEN).overlap(OverlapPolicy::Allow);
    let schedule = activate(&client, spec, "1").await;
    server.advance(TEN * 2).await;
    let before = runs(&client, &schedule, 2).await;
    // Back to before the schedule was made.
    server.clock.step_back(TEN * 10);
    for _ in 0..10 {
        server.advance(TEN).await;
        assert_eq!(get(&client, &schedule).await.run_count, 2);
    }
    server.advance(TEN).await;
    let after = runs(&client, &schedule, 3).await;
    assert_eq!((&after[..2], get(&client, &schedule).await.run_count), (&before[..], 3));
}

#[tokio::test]
async fn hundreds_of_schedules_that_are_due_together_are_all_served() {
    let server = Kept::sqlite().await;
    let client = server.client();
    let mut schedules = Vec::new();
    for n in 0..250 {
        schedules.push(activate(&client, ScheduleSpec::every(TEN), &n.to_string()).await);
    }
    server.advance(TEN).await;
    for schedule in &schedules {
        assert_eq!(get(&client, schedule).await.run_count, 1);
    }
}

#[tokio::test]
async fn a_schedule_that_cannot_be_read_or_served_stops_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("aiki.db");
    let clock = Arc::<ManualClock>::default();
    let first = Kept::sqlite_at(&path, clock.clone()).await;
    let client = first.client();
    let every = || ScheduleSpec::every(TEN).overlap(OverlapPolicy::Allow);
    let damaged = activate(&client, every(), "1").await;
    let berlin = activate(&client, ScheduleSpec::cron("* * * * *").timezone("Europe/Berlin"), "2").await;
    let good = activate(&client, every(), "3").await;
    first.server().close().await;
    database(&path, "UPDATE schedules SET head = 'x' WHERE id = ?1", &damaged);
    database(&path, "UPDATE schedules SET head = replace(head, 'Europe/Berlin', 'Mars/Base') WHERE id = ?1", &berlin);

    let second = Kept::sqlite_at(&path, clock).await;
    let client = second.client();
    second.advance(TEN * 7).await;
    assert_eq!(get(&client, &good).await.run_count, 7);
    assert_eq!(get(&client, &berlin).await.run_count, 0);
    let read = client.server().get_schedule(damaged.id).await;
    assert!(matches!(&read, Err(ServerError::Internal(text)) if text.contains("damaged")), "{read:?}");
    // And later ones are served as well.
    second.advance(TEN).await;
    assert_eq!(get(&client, &good).await.run_count, 8);
}
