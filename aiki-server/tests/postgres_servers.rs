//! Several servers on one Postgres database.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, reason = "for tests")]

mod support;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aiki_conformance::server::{
    LEASE, Pass, Recorder, as_claimed, claim, create, create_as, event, ready_request, request, status, try_claim,
    workflow,
};
use aiki_core::run::head::ConcurrencyKey;
use aiki_core::run::plan::CreateRun;
use aiki_core::run::{Reference, RunStatus};
use aiki_core::schedule::ActivateSchedule;
use aiki_core::server_client::{ClaimOutcome, WorkerServes};
use aiki_core::{
    Client, Name, OverlapPolicy, Priority, PublishReport, Publisher, ReadyRun, RunId, ScheduleId, ScheduleSpec,
    Transition,
};
use aiki_server::{Server, ServerStartError};
use async_trait::async_trait;
use support::on;
use test_postgres::Schema;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);
/// Far longer than anything takes here.
const PATIENCE: Duration = Duration::from_secs(30);

/// Two servers on one schema.
async fn two() -> (Schema, Server, Server) {
    let schema = Schema::fresh().await;
    let (a, b) = (on(&schema).start().await.unwrap(), on(&schema).start().await.unwrap());
    (schema, a, b)
}

async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let waiting = async {
        while !holds().await {
            sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(timeout(PATIENCE, waiting).await.is_ok(), "{what}");
}

async fn activate(client: &Client, spec: ScheduleSpec) -> ScheduleId {
    let CreateRun { input, input_hash, .. } = request("1");
    let asked = ActivateSchedule::new(workflow(), spec, input, input_hash);
    client.server().activate_schedule(asked).await.unwrap().id
}

fn clients(a: &Server, b: &Server, count: usize) -> Vec<Client> {
    (0..count).map(|n| if n % 2 == 0 { a.client() } else { b.client() }).collect()
}

#[tokio::test]
async fn no_run_is_claimed_twice_however_many_ask() {
    let (_schema, a, b) = two().await;
    let mut all = HashSet::new();
    for client in clients(&a, &b, 200) {
        all.insert(create(&client).await);
    }
    let mut workers = JoinSet::new();
    for (n, client) in clients(&a, &b, 8).into_iter().enumerate() {
        workers.spawn(async move {
            let (mut own, mut empty) = (Vec::new(), 0);
            // What another one has locked for a moment is not offered.
            while empty < 20 {
                let claimed = client.server().claim_ready(ready_request(&format!("w{n}"), 7)).await.unwrap();
                if claimed.is_empty() {
                    empty += 1;
                    sleep(Duration::from_millis(5)).await;
                }
                own.extend(claimed.into_iter().map(|claimed| (claimed.record.id, claimed.epoch)));
            }
            own
        });
    }
    let claimed: Vec<_> = workers.join_all().await.into_iter().flatten().collect();
    assert!(claimed.iter().all(|(_, epoch)| *epoch == 1));
    assert_eq!(claimed.len(), 200);
    assert_eq!(claimed.into_iter().map(|(run, _)| run).collect::<HashSet<RunId>>(), all);
}

#[tokio::test]
async fn a_delivery_to_workers_of_both_servers_is_granted_once() {
    let (_schema, a, b) = two().await;
    for _ in 0..20 {
        let run = create(&a.client()).await;
        let mut tries = JoinSet::new();
        for (n, client) in clients(&a, &b, 6).into_iter().enumerate() {
            tries.spawn(async move { try_claim(&client, &format!("w{n}"), run).await });
        }
        let granted = tries.join_all().await.into_iter().filter(|outcome| matches!(outcome, ClaimOutcome::Granted(_)));
        assert_eq!(granted.count(), 1);
    }
}

#[tokio::test]
async fn one_who_waits_at_one_server_wakes_when_the_run_ends_at_the_other() {
    let (_schema, a, b) = two().await;
    let run = create(&a.client()).await;
    let (waiter, begun) = (b.client(), Instant::now());
    let wait = tokio::spawn(async move { waiter.server().await_run(run, PATIENCE * 2).await });
    sleep(Duration::from_millis(100)).await;
    claim(&a.client(), "w", run).await.finish().await;
    let view = wait.await.unwrap().unwrap();
    assert_eq!(view.state.status(), RunStatus::Completed);
    assert!(begun.elapsed() < PATIENCE, "it was woken, not timed out");
}

#[tokio::test]
async fn more_ends_than_fit_into_a_notice_wake_all_who_wait() {
    let (_schema, a, b) = two().await;
    let mut runs = Vec::new();
    for _ in 0..400 {
        runs.push(create(&a.client()).await);
    }
    let mut waits = JoinSet::new();
    for run in [runs[0], runs[200], runs[399]] {
        let waiter = b.client();
        waits.spawn(async move { waiter.server().await_run(run, PATIENCE * 2).await.unwrap().state.status() });
    }
    sleep(Duration::from_millis(100)).await;
    let begun = Instant::now();
    assert_eq!(a.client().server().cancel_runs(&runs).await.unwrap().len(), 400);
    assert_eq!(waits.join_all().await, [RunStatus::Cancelled; 3]);
    assert!(begun.elapsed() < PATIENCE, "they were woken, not timed out");
}

#[tokio::test]
async fn a_worker_hears_at_its_server_what_happened_at_the_other() {
    let (_schema, a, b) = two().await;
    let (run, other) = (create(&a.client()).await, create(&a.client()).await);
    let worker = Name::new("w");
    let _passes = (claim(&b.client(), "w", run).await, claim(&b.client(), "w", other).await);
    let (listening, name) = (b.client(), worker.clone());
    let news = tokio::spawn(async move { listening.server().await_news(&name, PATIENCE).await.unwrap() });
    sleep(Duration::from_millis(100)).await;
    a.client().server().send_event(event(run, "paid", None)).await.unwrap();
    assert_eq!(news.await.unwrap(), [run]);
    let (listening, name) = (b.client(), worker.clone());
    let news = tokio::spawn(async move { listening.server().await_news(&name, PATIENCE).await.unwrap() });
    a.client().server().cancel_run(other, None).await.unwrap();
    assert_eq!(news.await.unwrap(), [other]);
}

#[tokio::test]
async fn a_timer_fires_though_the_server_that_set_it_is_gone() {
    let (_schema, a, b) = two().await;
    let run = create(&a.client()).await;
    let mut pass = claim(&a.client(), "w", run).await;
    pass.report(vec![Pass::sleep(0, SECOND), Transition::Suspended]).await;
    let spec = ScheduleSpec::every(SECOND).overlap(OverlapPolicy::Allow);
    let schedule = activate(&a.client(), spec).await;
    drop(pass);
    a.close().await;
    let client = b.client();
    until("the sleep ends", async || status(&client, run).await == RunStatus::Queued).await;
    let fired = async || client.server().get_schedule(schedule).await.unwrap().run_count > 0;
    until("the schedule fires", fired).await;
}

#[tokio::test]
async fn an_occurrence_has_one_run_though_both_servers_fire_it() {
    let (_schema, a, b) = two().await;
    let spec = ScheduleSpec::every(SECOND).overlap(OverlapPolicy::Allow);
    let schedule = activate(&a.client(), spec).await;
    let client = b.client();
    let count = async || client.server().get_schedule(schedule).await.unwrap().run_count;
    until("it fires three times", async || count().await >= 3).await;
    let status = aiki_core::ScheduleStatus::Paused;
    client.server().set_schedule_status(schedule, status).await.unwrap();
    let counted = count().await;
    let mut claimed = Vec::new();
    let mut empty = 0;
    while empty < 5 {
        let ready = client.server().claim_ready(ready_request("w", 100)).await.unwrap();
        empty += usize::from(ready.is_empty());
        claimed.extend(ready.into_iter().map(|claimed| claimed.record.id));
    }
    assert_eq!(claimed.len() as u64, counted);
}

#[tokio::test]
async fn starts_that_race_make_the_tables_once() {
    let schema = Schema::fresh().await;
    let mut starts = JoinSet::new();
    for _ in 0..4 {
        starts.spawn(on(&schema).start());
    }
    let servers: Vec<_> = starts.join_all().await.into_iter().map(Result::unwrap).collect();
    let run = create(&servers[0].client()).await;
    for server in &servers {
        assert_eq!(status(&server.client(), run).await, RunStatus::Queued);
    }
    let steps: i64 = schema.connect().await.query_one_scalar("SELECT count(*) FROM aiki_schema", &[]).await.unwrap();
    assert_eq!(steps, 1);
}

#[tokio::test]
async fn a_concurrency_limit_holds_across_servers() {
    let (_schema, a, b) = two().await;
    const RUNS: usize = 30;
    for client in clients(&a, &b, RUNS) {
        let shared = ConcurrencyKey { key: "tenant".into(), limit: 2 };
        create_as(&client, CreateRun { concurrency: Some(shared), ..request("1") }).await;
    }
    let (working, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut workers = JoinSet::new();
    for (n, client) in clients(&a, &b, 6).into_iter().enumerate() {
        let (working, done) = (Arc::clone(&working), Arc::clone(&done));
        workers.spawn(async move {
            while done.load(Ordering::SeqCst) < RUNS {
                for claimed in client.server().claim_ready(ready_request(&format!("w{n}"), 3)).await.unwrap() {
                    let others = working.fetch_add(1, Ordering::SeqCst);
                    assert!(others < 2, "{} work at once", others + 1);
                    sleep(Duration::from_millis(5)).await;
                    working.fetch_sub(1, Ordering::SeqCst);
                    Pass::of(&client, claimed).finish().await;
                    done.fetch_add(1, Ordering::SeqCst);
                }
                sleep(Duration::from_millis(2)).await;
            }
        });
    }
    assert!(
        timeout(PATIENCE, workers.join_all()).await.is_ok(),
        "{} of {RUNS} were let in",
        done.load(Ordering::SeqCst)
    );
}

#[tokio::test]
async fn the_last_place_of_a_key_is_given_once_though_two_servers_give_it() {
    let (_schema, a, b) = two().await;
    let (at_a, at_b) = (a.client(), b.client());
    for round in 0..40 {
        let shared = || Some(ConcurrencyKey { key: format!("tenant-{round}"), limit: 1 });
        let first = create_as(&at_a, CreateRun { concurrency: shared(), ..request("1") }).await;
        let second = create_as(&at_b, CreateRun { concurrency: shared(), ..request("1") }).await;
        let (x, y) = tokio::join!(try_claim(&at_a, "v", first), try_claim(&at_b, "w", second));
        let granted = [&x, &y].into_iter().filter(|outcome| matches!(outcome, ClaimOutcome::Granted(_))).count();
        assert_eq!(granted, 1, "round {round}");
        // The other one was held back, and is let in when the place is free, also when that happens at the same time.
        let (client, holds, other) = match x {
            ClaimOutcome::Granted(claimed) => (&at_a, *claimed, second),
            _ => (&at_b, as_claimed(y), first),
        };
        let finish = Pass::of(client, holds).finish();
        let (_, again) = tokio::join!(finish, try_claim(&at_a, "u", other));
        if !matches!(again, ClaimOutcome::Granted(_)) {
            claim(&at_b, "u", other).await;
        }
    }
}

#[tokio::test]
async fn one_reference_makes_one_run_however_many_ask_both_servers() {
    let (_schema, a, b) = two().await;
    for round in 0..10 {
        let mut starts = JoinSet::new();
        for client in clients(&a, &b, 32) {
            let reference = Some(Reference { id: format!("order-{round}"), conflict_policy: Default::default() });
            starts.spawn(
                async move { client.server().create_run(CreateRun { reference, ..request("1") }).await.unwrap() },
            );
        }
        let created = starts.join_all().await;
        assert_eq!(created.iter().map(|created| created.id).collect::<HashSet<_>>().len(), 1);
        assert_eq!(created.iter().filter(|created| !created.existed).count(), 1);
    }
}

#[tokio::test]
async fn a_storm_of_events_from_both_servers_loses_none_and_doubles_none() {
    let (_schema, a, b) = two().await;
    let run = create(&a.client()).await;
    let mut senders = JoinSet::new();
    for (n, client) in clients(&a, &b, 24).into_iter().enumerate() {
        senders.spawn(async move {
            for k in 0..10 {
                client.server().send_event(event(run, "each", None)).await.unwrap();
                // All send this one.
                client.server().send_event(event(run, "once", Some(&format!("{k}")))).await.unwrap();
            }
            n
        });
    }
    senders.join_all().await;
    let record = b.client().server().get_run(run).await.unwrap();
    let count = |name: &str| record.events.iter().filter(|event| event.name == name).count();
    assert_eq!((count("each"), count("once")), (240, 10));
}

/// Announces nothing, ever.
struct Hanging;

#[async_trait]
impl Publisher for Hanging {
    async fn publish(&self, _: &[ReadyRun]) -> PublishReport {
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_run_is_announced_though_its_server_is_gone_before_it_could() {
    let schema = Schema::fresh().await;
    let recorder = Arc::new(Recorder::default());
    let a = on(&schema).publisher(Arc::new(Hanging)).start().await.unwrap();
    let b = on(&schema).publisher(recorder.clone()).start().await.unwrap();
    let run = create(&a.client()).await;
    a.close().await;
    assert!(timeout(PATIENCE, recorder.announced(run, 1)).await.is_ok());
    drop(b);
}

#[tokio::test]
async fn workers_and_what_they_hold_are_the_same_on_every_server() {
    let (_schema, a, b) = two().await;
    let run = create(&a.client()).await;
    let view = b.client().server().await_run(run, Duration::ZERO).await.unwrap();
    assert!(view.unserved);
    let pass = claim(&a.client(), "w", run).await;
    let listed = b.client().server().list_workers().await.unwrap();
    let holds: Vec<_> = listed.iter().map(|worker| (worker.name.as_str(), worker.holds.len())).collect();
    assert_eq!(holds, [("w", 1)], "it is held in the store");
    pass.finish().await;
    assert!(b.client().server().list_workers().await.unwrap().iter().all(|worker| worker.holds.is_empty()));
    let serves = WorkerServes { workflows: vec![workflow()], pools: Vec::new() };
    a.client().server().announce_worker(&Name::new("w"), serves.clone()).await.unwrap();
    let next = create(&a.client()).await;
    let client = b.client();
    let served = async || !client.server().await_run(next, Duration::ZERO).await.unwrap().unserved;
    until("the other server learns who serves", served).await;
    let listed = client.server().list_workers().await.unwrap();
    assert_eq!(listed.iter().map(|worker| worker.serves.clone()).collect::<Vec<_>>(), [Some(serves)]);
    assert!(LEASE > SECOND);
}

#[tokio::test]
async fn reports_that_are_sent_to_both_servers_are_written_once() {
    let (_schema, a, b) = two().await;
    let run = create(&a.client()).await;
    let mut pass = claim(&a.client(), "w", run).await;
    for ordinal in 0..10 {
        let opened = pass.open(ordinal);
        let report = pass.next(vec![opened]);
        let (at_a, at_b) = (a.client(), b.client());
        let (first, second) = tokio::join!(at_a.server().report(report.clone()), at_b.server().report(report.clone()));
        assert_eq!(first.unwrap(), second.unwrap());
    }
    assert_eq!(b.client().server().get_run(run).await.unwrap().tasks.len(), 10);
}

#[tokio::test]
async fn a_schema_of_another_program_or_of_a_newer_version_is_refused() {
    let schema = Schema::fresh().await;
    on(&schema).start().await.unwrap().close().await;
    let client = schema.connect().await;
    client.batch_execute("UPDATE aiki_schema SET version = 99").await.unwrap();
    let error = on(&schema).start().await.unwrap_err();
    assert!(matches!(error, ServerStartError::PostgresNewerSchema { found: 99, .. }), "{error}");
    assert!(error.to_string().contains("use the newer version"), "{error}");
    client.batch_execute("DROP TABLE aiki_schema").await.unwrap();
    let error = on(&schema).start().await.unwrap_err();
    assert!(matches!(error, ServerStartError::PostgresForeign { .. }), "{error}");
    assert!(error.to_string().contains("postgres_schema"), "{error}");
}

#[tokio::test]
async fn an_address_that_cannot_be_used_is_refused_in_one_line_without_its_secret() {
    for url in ["", "mysql://u:secret@h/d", "postgres://u:secret@h:port/d", "postgres://u:secret@/d", "h o s t"] {
        let error = Server::builder().postgres(url).start().await.unwrap_err();
        assert!(matches!(error, ServerStartError::PostgresUrl { .. }), "{url}: {error}");
        let text = error.to_string();
        assert!(text.contains("postgres://user:secret@host/database") && !text.contains('\n'), "{text}");
        assert!(!text.contains("u:secret"), "{text}");
    }
    let error = Server::builder().postgres("postgres://u:hidden@127.0.0.1:1/d").start().await.unwrap_err();
    assert!(matches!(error, ServerStartError::PostgresUnreachable { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("127.0.0.1:1/d") && text.contains("refused") && !text.contains("hidden"), "{text}");
    let schema = Schema { name: "Robert'); DROP".into(), url: test_postgres::url().await };
    let error = on(&schema).start().await.unwrap_err();
    assert!(matches!(error, ServerStartError::PostgresUrl { .. }), "{error}");
    let missing = format!("{}_missing", test_postgres::url().await);
    let error = Server::builder().postgres(missing).start().await.unwrap_err();
    assert!(matches!(error, ServerStartError::PostgresNoDatabase { .. }), "{error}");
    std::mem::forget(schema);
}

#[tokio::test]
async fn runs_that_wait_in_an_older_database_keep_their_places() {
    let schema = Schema::fresh().await;
    let server = on(&schema).start().await.unwrap();
    let client = server.client();
    let mut runs = Vec::new();
    for priority in [Priority::Normal, Priority::Low, Priority::Normal, Priority::High] {
        let shared = Some(ConcurrencyKey { key: "tenant".into(), limit: 1 });
        runs.push(create_as(&client, CreateRun { concurrency: shared, priority, ..request("1") }).await);
    }
    let mut holder = as_claimed(try_claim(&client, "w", runs[0]).await);
    for run in &runs[1..] {
        assert!(!matches!(try_claim(&client, "w", *run).await, ClaimOutcome::Granted(_)));
    }
    server.close().await;
    let older = "
        DROP INDEX runs_slot;
        ALTER TABLE runs DROP COLUMN wait_limit, DROP COLUMN wait_rank;
        CREATE INDEX runs_slot ON runs (namespace, slot_key) WHERE slot_key IS NOT NULL;
        UPDATE aiki_schema SET version = 2";
    schema.connect().await.batch_execute(older).await.unwrap();
    let server = on(&schema).start().await.unwrap();
    let client = server.client();
    for next in [runs[3], runs[2], runs[1]] {
        Pass::of(&client, holder).finish().await;
        let claimed = client.server().claim_ready(ready_request("w", 9)).await.unwrap();
        assert_eq!(claimed.iter().map(|claimed| claimed.record.id).collect::<Vec<_>>(), [next]);
        holder = claimed.into_iter().next().unwrap();
    }
}
