//! Runs that ended long ago are forgotten, and nothing else is.
#![allow(clippy::unwrap_used, reason = "for tests")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use aiki_conformance::server::{Pass, child_start, claim, create, create_as, event, request, workflow};
use aiki_core::listing::{RunFilter, RunOrder};
use aiki_core::run::plan::CreateRun;
use aiki_core::run::{Reference, RunStatus};
use aiki_core::schedule::ActivateSchedule;
use aiki_core::{Client, OverlapPolicy, RunId, ScheduleSpec, ServerError, Transition};
use aiki_runtime::{SeededEntropy, VirtualClock};
use aiki_server::{Server, ServerBuilder};
use support::ManualClock;

const KEEP: Duration = Duration::from_secs(3_600);

fn builder() -> ServerBuilder {
    Server::builder().entropy(Arc::new(SeededEntropy::new(1))).retention(KEEP)
}

async fn is_there(client: &Client, run: RunId) -> bool {
    match client.server().get_run(run).await {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error, ServerError::RunNotFound(run));
            false
        }
    }
}

fn referring(id: &str) -> CreateRun {
    CreateRun { reference: Some(Reference { id: id.into(), conflict_policy: Default::default() }), ..request("1") }
}

async fn cancel(client: &Client, run: RunId) {
    client.server().cancel_run(run, None).await.unwrap();
}

/// A store on a clock that is stepped by hand.
struct Store {
    server: Server,
    clock: Arc<ManualClock>,
    _folder: Option<tempfile::TempDir>,
}

impl Store {
    async fn advance(&self, by: Duration) {
        self.clock.step(by);
        self.server.run_due_timers().await.unwrap();
    }
}

async fn stores() -> Vec<Store> {
    let clock = Arc::<ManualClock>::default();
    let memory = builder().clock(clock.clone()).start().await.unwrap();
    let mut stores = vec![Store { server: memory, clock, _folder: None }];
    #[cfg(feature = "sqlite")]
    {
        let (folder, clock) = (tempfile::tempdir().unwrap(), Arc::<ManualClock>::default());
        let sqlite = builder().sqlite(folder.path().join("aiki.db")).clock(clock.clone()).start().await.unwrap();
        stores.push(Store { server: sqlite, clock, _folder: Some(folder) });
    }
    stores
}

#[tokio::test(start_paused = true)]
async fn runs_leave_by_themselves_when_their_time_is_over() {
    let server = builder().clock(Arc::new(VirtualClock::default())).start().await.unwrap();
    let client = server.client();
    let (ended, open) = (create(&client).await, create(&client).await);
    tokio::time::sleep(KEEP * 3).await;
    cancel(&client, ended).await;
    tokio::time::sleep(KEEP - Duration::from_millis(1)).await;
    assert!(is_there(&client, ended).await, "its time counts from its end");
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert!(!is_there(&client, ended).await);
    assert!(is_there(&client, open).await);
}

#[tokio::test(start_paused = true)]
async fn without_retention_runs_are_kept_for_ever() {
    let clock = Arc::new(VirtualClock::default());
    let server = Server::builder().clock(clock).start().await.unwrap();
    let run = create(&server.client()).await;
    cancel(&server.client(), run).await;
    tokio::time::sleep(KEEP * 24 * 365).await;
    assert!(is_there(&server.client(), run).await);
}

#[tokio::test]
async fn runs_that_ended_later_than_they_were_created_leave_later() {
    for store in stores().await {
        let client = store.server.client();
        let (first, second) = (create(&client).await, create(&client).await);
        cancel(&client, second).await;
        store.advance(Duration::from_secs(10)).await;
        cancel(&client, first).await;
        store.advance(KEEP - Duration::from_secs(10)).await;
        assert_eq!((is_there(&client, first).await, is_there(&client, second).await), (true, false));
        store.advance(Duration::from_secs(10)).await;
        assert!(!is_there(&client, first).await);
        assert_eq!(client.list_runs(RunFilter::default()).next().await.unwrap(), None);
        assert_eq!(client.run_stats(None).await.unwrap().total(), 0);
        let workflows = client.list_workflows(Default::default()).await.unwrap().workflows;
        assert_eq!((workflows.len(), workflows[0].run_count), (1, 0), "it was used once");
        assert_eq!(workflows[0].last_run_at, Some(second.created_at()));
    }
}

#[tokio::test]
async fn a_child_stays_for_as_long_as_its_parent_goes_on() {
    for store in stores().await {
        let client = store.server.client();
        let parent = create(&client).await;
        let mut pass = claim(&client, "w", parent).await;
        let started = pass.report(vec![Pass::start_child(0, child_start("1"))]).await;
        let child = started.children[0].unwrap();
        claim(&client, "w", child).await.finish().await;
        pass.signals = 1;
        pass.report(vec![Pass::sleep(0, KEEP * 3), Transition::Suspended]).await;
        store.advance(KEEP * 2).await;
        assert!(is_there(&client, child).await);
        cancel(&client, parent).await;
        store.advance(Duration::from_secs(1)).await;
        assert!(!is_there(&client, child).await, "nobody asks for it any more");
        assert!(is_there(&client, parent).await, "it ended just now");
        store.advance(KEEP).await;
        assert!(!is_there(&client, parent).await);
    }
}

#[tokio::test]
async fn a_parent_may_leave_before_its_child_ends() {
    for store in stores().await {
        let client = store.server.client();
        let parent = create(&client).await;
        let mut pass = claim(&client, "w", parent).await;
        let started = pass.report(vec![Pass::start_child(0, child_start("1"))]).await;
        let child = started.children[0].unwrap();
        pass.finish().await;
        store.advance(KEEP).await;
        assert!(!is_there(&client, parent).await);
        // It has nobody to tell, and says so to nobody.
        claim(&client, "w", child).await.finish().await;
        store.advance(KEEP).await;
        assert!(!is_there(&client, child).await);
    }
}

#[tokio::test]
async fn a_reference_id_is_free_again() {
    for store in stores().await {
        let client = store.server.client();
        let first = create_as(&client, referring("order-1")).await;
        cancel(&client, first).await;
        assert!(client.server().create_run(referring("order-1")).await.unwrap().existed);
        store.advance(KEEP).await;
        let gone = client.server().get_run_by_reference(&workflow(), "order-1").await;
        assert!(matches!(gone, Err(ServerError::ReferenceNotFound { .. })), "{gone:?}");
        let second = client.server().create_run(referring("order-1")).await.unwrap();
        assert!(!second.existed && second.id != first);
    }
}

#[tokio::test]
async fn a_schedule_goes_on_when_its_runs_are_gone() {
    for policy in [OverlapPolicy::Skip, OverlapPolicy::CancelPrevious, OverlapPolicy::Allow] {
        for store in stores().await {
            let client = store.server.client();
            let CreateRun { input, input_hash, .. } = request("1");
            let spec = ScheduleSpec::every(KEEP * 2).overlap(policy);
            let asked = ActivateSchedule::new(workflow(), spec, input, input_hash);
            let schedule = client.server().activate_schedule(asked).await.unwrap().id;
            let mut before = None;
            for count in 1..4 {
                store.advance(KEEP * 2).await;
                let record = client.server().get_schedule(schedule).await.unwrap();
                assert_eq!(record.run_count, count, "{policy:?}");
                let run = record.last_run.unwrap();
                cancel(&client, run).await;
                if let Some(before) = before.replace(run) {
                    assert!(!is_there(&client, before).await);
                }
            }
        }
    }
}

#[tokio::test]
async fn a_list_that_is_read_on_goes_past_runs_that_left() {
    for store in stores().await {
        let client = store.server.client();
        let mut runs = Vec::new();
        for _ in 0..6 {
            runs.push(create(&client).await);
        }
        let mut list = client.list_runs(RunFilter::default()).order(RunOrder::OldestFirst).page_size(2);
        let first = list.next_page().await.unwrap().unwrap();
        assert_eq!(first.next, Some(runs[1]));
        for run in [runs[1], runs[2]] {
            cancel(&client, run).await;
        }
        store.advance(KEEP).await;
        let second = list.next_page().await.unwrap().unwrap();
        assert_eq!(second.runs.iter().map(|run| run.id).collect::<Vec<_>>(), [runs[3], runs[4]]);
    }
}

#[tokio::test]
async fn more_runs_than_one_commit_takes_leave_in_one_go() {
    for store in stores().await {
        let client = store.server.client();
        let mut runs = Vec::new();
        for _ in 0..250 {
            runs.push(create(&client).await);
        }
        client.server().cancel_runs(&runs[..230]).await.unwrap();
        store.advance(KEEP).await;
        let stats = client.run_stats(None).await.unwrap();
        assert_eq!((stats.total(), stats.of(RunStatus::Queued)), (20, 20));
    }
}

#[cfg(feature = "sqlite")]
mod sqlite {
    use std::path::Path;

    use super::*;
    use rusqlite::Connection;

    /// A run with pages, marks, a child and a reference id, which ends when `end` says so.
    async fn whole(client: &Client, name: &str, end: bool) -> [RunId; 2] {
        let run = create_as(client, referring(name)).await;
        client.server().send_event(event(run, "paid", Some("once"))).await.unwrap();
        let mut pass = claim(client, "w", run).await;
        let child = pass.report(vec![Pass::start_child(0, child_start("1"))]).await.children[0].unwrap();
        for task in 0..30 {
            pass.report(vec![pass.open(task)]).await;
            pass.report(vec![pass.complete(task, "{\"text\":\"long enough to leave the row of the run\"}")]).await;
        }
        claim(client, "w", child).await.finish().await;
        pass.signals += 1;
        if end {
            pass.report(vec![Transition::Completed { output: None }]).await;
        } else {
            pass.report(vec![Pass::sleep(0, KEEP * 9), Transition::Suspended]).await;
        }
        [run, child]
    }

    fn rows(path: &Path) -> Vec<(&'static str, i64)> {
        let database = Connection::open(path).unwrap();
        let count = |sql: &str| database.query_row(sql, [], |row| row.get(0)).unwrap();
        let orphans = "SELECT (SELECT count(*) FROM history WHERE run NOT IN (SELECT id FROM runs))
                            + (SELECT count(*) FROM marks WHERE run NOT IN (SELECT id FROM runs))";
        let problems: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(problems, "ok");
        let tables: i64 = count("SELECT count(*) FROM sqlite_schema WHERE type = 'table'");
        assert_eq!(tables, 5, "a table that this test does not know");
        vec![
            ("runs", count("SELECT count(*) FROM runs")),
            ("history", count("SELECT count(*) FROM history")),
            ("marks", count("SELECT count(*) FROM marks")),
            ("schedules", count("SELECT count(*) FROM schedules")),
            ("workflows", count("SELECT count(*) FROM workflows")),
            ("orphans", count(orphans)),
        ]
    }

    #[tokio::test]
    async fn nothing_of_a_forgotten_run_is_left_in_any_table() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("aiki.db");
        let clock = Arc::<ManualClock>::default();
        let server = builder().sqlite(&path).clock(clock.clone()).start().await.unwrap();
        let client = server.client();
        let [stays, its_child] = whole(&client, "stays", false).await;
        server.close().await;
        let expected = rows(&path);
        assert!(expected.iter().all(|(table, count)| (*count > 0) == !matches!(*table, "schedules" | "orphans")));

        let server = builder().sqlite(&path).clock(clock.clone()).start().await.unwrap();
        let client = server.client();
        for name in ["a", "b", "c"] {
            whole(&client, name, true).await;
        }
        let mut more = Vec::new();
        for _ in 0..150 {
            more.push(create(&client).await);
        }
        client.server().cancel_runs(&more).await.unwrap();
        // More than one commit: it ends in between. A commit removes whole runs.
        clock.step(KEEP);
        let before = client.run_stats(None).await.unwrap().total();
        let stopped = async {
            while client.run_stats(None).await.unwrap().total() == before {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            () = stopped => {}
            done = server.run_due_timers() => done.unwrap(),
        }
        server.close().await;
        let between = rows(&path);
        assert_eq!(between.last(), Some(&("orphans", 0)));
        assert!(between[0].1 < before as i64 && between[0].1 > expected[0].1, "{between:?}");

        let server = builder().sqlite(&path).clock(clock).start().await.unwrap();
        server.run_due_timers().await.unwrap();
        let client = server.client();
        assert!(is_there(&client, stays).await && is_there(&client, its_child).await);
        server.close().await;
        assert_eq!(rows(&path), expected);
    }
}
