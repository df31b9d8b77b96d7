//! Schedules, by the plain contract.
#![allow(clippy::unwrap_used, reason = "for tests")]

use std::time::Duration;

use aiki_client::HttpClient;
use aiki_conformance::server::{request, workflow};
use aiki_core::listing::RunFilter;
use aiki_core::run::plan::CreateRun;
use aiki_core::run::{ConflictPolicy, Reference, RunStatus};
use aiki_core::schedule::{ActivateSchedule, ScheduleFilter, ScheduleStatus};
use aiki_core::{
    Client, Failure, OverlapPolicy, Run, Schedule, ScheduleSpec, ServerError, Task, TaskContext, Workflow,
};
use aiki_server::Server;

use crate::plain::work;
use crate::support::{Served, config};

const MS: Duration = Duration::from_millis(1);

/// A server whose ids tell no ordinals.
async fn abroad() -> (Server, Served, Client) {
    let server = Server::builder().start().await.unwrap();
    let served = Served::abroad(&server).await;
    let client = Client::new(HttpClient::connect(config(served.address)).unwrap());
    (server, served, client)
}

fn asking(spec: ScheduleSpec, reference: Option<&str>) -> ActivateSchedule {
    let CreateRun { input, input_hash, .. } = request("1");
    let reference = reference.map(|id| Reference { id: id.into(), conflict_policy: ConflictPolicy::Error });
    ActivateSchedule { reference, ..ActivateSchedule::new(workflow(), spec, input, input_hash) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_carries_out_what_a_schedule_starts() {
    let double = Task::new("double", |_: TaskContext, n: u32| async move { Ok::<_, Failure>(n * 2) });
    let report = Workflow::new("report").version("1", move |run: Run, n: u32| {
        let double = double.clone();
        async move {
            let twice = double.start(&run, n).await?;
            run.sleep("nap", 20 * MS).await;
            Ok::<_, Failure>(double.start(&run, twice).await?)
        }
    });
    let (_server, _served, client) = abroad().await;
    let worker = work(&client, |worker| drop(worker.workflow_registry().add(&report)));
    let every = Schedule::every(100 * MS).overlap(OverlapPolicy::Allow).reference_id("often");
    let schedule = every.activate(&client, &report, 5).await.unwrap();
    let ended =
        RunFilter { schedule: Some(schedule.id()), statuses: vec![RunStatus::Completed], ..RunFilter::default() };
    let twice = async {
        while client.server().count_runs(ended.clone()).await.unwrap() < 2 {
            tokio::time::sleep(50 * MS).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), twice).await.unwrap();
    schedule.pause().await.unwrap();
    let paused = schedule.record().await.unwrap();
    assert_eq!(paused.status, ScheduleStatus::Paused);
    assert!(paused.run_count >= 2 && paused.last_occurrence.is_some(), "{paused:?}");
    let last = client.server().get_run(paused.last_run.unwrap()).await.unwrap();
    assert_eq!(
        (last.schedule, last.reference_id),
        (Some(schedule.id()), Some(paused.run_reference(paused.last_occurrence.unwrap())))
    );
    let first = client.list_runs(ended).next().await.unwrap().unwrap();
    let value = client.handle(&report, first.id).wait().await.unwrap();
    assert_eq!((value, first.schedule), (20, Some(schedule.id())));
    worker.stop().await;
}

#[tokio::test]
async fn a_schedule_is_paused_resumed_and_taken_out_of_service() {
    let (_server, _served, client) = abroad().await;
    let server = client.server();
    let daily = server.activate_schedule(asking(ScheduleSpec::cron("@daily"), Some("daily"))).await.unwrap();
    assert_eq!((daily.status, daily.run_count, daily.last_run), (ScheduleStatus::Active, 0, None));
    for status in [ScheduleStatus::Paused, ScheduleStatus::Active, ScheduleStatus::Inactive] {
        assert_eq!(server.set_schedule_status(daily.id, status).await.unwrap().status, status);
        assert_eq!(server.get_schedule(daily.id).await.unwrap().status, status);
        let listed = ScheduleFilter { statuses: vec![status], ..ScheduleFilter::default() };
        assert_eq!(server.list_schedules(listed, 10, 0).await.unwrap().schedules[0].id, daily.id);
    }
    assert_eq!(server.get_schedule_by_reference("daily").await.unwrap().id, daily.id);
    let nobody = server.get_schedule_by_reference("weekly").await;
    assert_eq!(nobody, Err(ServerError::ScheduleNotFound("weekly".into())));
}

#[tokio::test]
async fn a_conflict_names_the_schedule_that_the_contract_does_not_name() {
    let (_server, _served, client) = abroad().await;
    let server = client.server();
    let (ten, twenty) = (ScheduleSpec::every(MS * 10_000), ScheduleSpec::every(MS * 20_000));
    let first = server.activate_schedule(asking(ten.clone(), Some("a"))).await.unwrap();
    for (asked, wanted) in
        [(asking(twenty, Some("a")), "ReturnExisting"), (asking(ten, Some("b")), "another reference id")]
    {
        match server.activate_schedule(asked).await {
            Err(ServerError::ScheduleConflict { schedule, reason }) => {
                assert_eq!(schedule, first.id);
                assert!(reason.contains(wanted) && reason.contains(&first.id.to_string()), "{reason}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn the_hashes_of_a_schedule_are_those_that_an_embedded_server_keeps() {
    let (server, _served, client) = abroad().await;
    let CreateRun { input_hash, .. } = request("null");
    let spec = ScheduleSpec::cron("@hourly");
    let none =
        ActivateSchedule { input: None, input_hash: aiki_core::hash::input_hash(None).unwrap(), ..asking(spec, None) };
    assert_ne!(none.input_hash, input_hash);
    let theirs = client.server().activate_schedule(none).await.unwrap();
    let ours =
        server.client().server().list_schedules(ScheduleFilter::default(), 1, 0).await.unwrap().schedules.remove(0);
    assert_eq!((&theirs.input_hash, &theirs.definition_hash), (&ours.input_hash, &ours.definition_hash));
    let read = client.server().get_schedule(theirs.id).await.unwrap();
    assert_eq!((read.input, read.definition_hash), (None, ours.definition_hash));
}
