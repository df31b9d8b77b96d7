//! The SQLite store when something is wrong with its file.
#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "for tests")]

mod support;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aiki_conformance::server::{Pass, ServerHarness, claim, create, ready_request, request};
use aiki_core::run::RunStatus;
use aiki_core::{Report, RunId, ServerError, Transition};
use aiki_server::{Server, ServerStartError};
use rusqlite::Connection;
use support::Kept;
use tempfile::TempDir;

/// Tells a child process which database to use.
const DATABASE: &str = "AIKI_TEST_DATABASE";

fn scratch() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("aiki.db");
    (folder, path)
}

/// This test program again, as another process that runs one test.
fn child(test: &str, database: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(DATABASE, database);
    command
}

fn assert_intact(path: &Path) {
    let connection = Connection::open(path).unwrap();
    let answer: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(answer, "ok");
}

async fn start_error(path: &Path) -> ServerStartError {
    Server::builder().sqlite(path).start().await.expect_err("the server must not start")
}

#[tokio::test]
async fn a_full_disk_refuses_and_heals_without_a_restart() {
    let (_folder, path) = scratch();
    let pages = Arc::new(AtomicU32::new(0));
    let server = Server::builder().sqlite(&path).page_limit(pages.clone()).start().await.unwrap();
    let client = server.client();
    let first = create(&client).await;
    let mut pass = claim(&client, "w", first).await;
    pages.store(1, Ordering::SeqCst);
    let large = format!("\"{}\"", "x".repeat(100_000));
    let refused = client.server().create_run(request(&large)).await.unwrap_err();
    assert!(matches!(&refused, ServerError::Unavailable(text) if text.contains("disk is full")), "{refused}");
    // Neither is a half of it there, nor was anything lost.
    assert!(client.server().claim_ready(ready_request("w", 10)).await.unwrap().is_empty());
    assert_eq!(client.server().get_run(first).await.unwrap().state.status(), RunStatus::Running);
    // A report that does not fit is refused in the same way and can be repeated.
    let transitions: Vec<_> = std::iter::once(pass.open(0)).chain([pass.complete(0, &large)]).collect();
    let report = pass.next(transitions);
    let refused = client.server().report(report.clone()).await.unwrap_err();
    assert!(refused.is_transient(), "{refused}");
    pages.store(0, Ordering::SeqCst);
    client.server().report(report).await.unwrap();
    assert_eq!(client.server().get_run(first).await.unwrap().tasks.len(), 1);
    client.server().create_run(request(&large)).await.unwrap();
    server.close().await;
    assert_intact(&path);
}

#[tokio::test]
async fn a_request_that_does_not_fit_does_not_fail_its_batch() {
    let (_folder, path) = scratch();
    let pages = Arc::new(AtomicU32::new(0));
    let server = Server::builder().sqlite(&path).page_limit(pages.clone()).start().await.unwrap();
    let client = server.client();
    create(&client).await;
    // Some free room: enough for the small ones.
    pages.store(40, Ordering::SeqCst);
    let start = |input: String| {
        let client = client.clone();
        tokio::spawn(async move { client.server().create_run(request(&input)).await })
    };
    let mut small: Vec<_> = (0..8).map(|n| start(n.to_string())).collect();
    let large = start(format!("\"{}\"", "x".repeat(500_000)));
    small.extend((8..16).map(|n| start(n.to_string())));
    assert!(large.await.unwrap().unwrap_err().is_transient());
    for one in small {
        let run = one.await.unwrap().unwrap().id;
        assert_eq!(client.server().get_run(run).await.unwrap().state.status(), RunStatus::Queued);
    }
}

#[tokio::test]
async fn files_that_are_not_ours_are_refused_and_left_alone() {
    let (folder, path) = scratch();
    let garbage = b"this is a diary, not a database. ".repeat(1_000);
    std::fs::File::create(&path).unwrap().write_all(&garbage).unwrap();
    assert!(matches!(start_error(&path).await, ServerStartError::NotADatabase { .. }));
    assert_eq!(std::fs::read(&path).unwrap(), garbage);

    let foreign = folder.path().join("foreign.db");
    Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE diary (day TEXT)").unwrap();
    let before = std::fs::read(&foreign).unwrap();
    let error = start_error(&foreign).await;
    assert!(error.to_string().contains("another program"), "{error}");
    assert!(std::fs::read(&foreign).unwrap() == before, "the file is left as it was, to the byte");
    let connection = Connection::open(&foreign).unwrap();
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).unwrap();
    assert_eq!(tables, 1);
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let (_folder, path) = scratch();
    Server::builder().sqlite(&path).start().await.unwrap().close().await;
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = start_error(&path).await;
    assert!(matches!(error, ServerStartError::NewerSchema { found: 99, .. }), "{error}");
}

#[tokio::test]
async fn a_missing_folder_is_named() {
    let (folder, _) = scratch();
    let error = start_error(&folder.path().join("missing").join("aiki.db")).await;
    assert!(matches!(&error, ServerStartError::DirectoryMissing { path } if path.ends_with("missing")), "{error}");
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_may_read_the_files() {
    use std::os::unix::fs::PermissionsExt as _;
    let (folder, path) = scratch();
    let server = Server::builder().sqlite(&path).start().await.unwrap();
    create(&server.client()).await;
    let files: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(Result::unwrap).collect();
    assert!(files.len() >= 3, "database, log and lock");
    for file in files {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.path());
    }
}

#[tokio::test]
async fn a_second_server_is_refused_until_the_first_is_closed() {
    let (_folder, path) = scratch();
    let first = Server::builder().sqlite(&path).start().await.unwrap();
    assert!(matches!(start_error(&path).await, ServerStartError::Locked { .. }));
    first.close().await;
    let second = Server::builder().sqlite(&path).start().await.unwrap();
    create(&second.client()).await;
    // The first one says so, and goes on saying it when closed again.
    first.close().await;
    let refused = first.client().server().create_run(request("1")).await;
    assert!(matches!(refused, Err(ServerError::Unavailable(text)) if text.contains("closed")));
}

#[tokio::test]
async fn a_server_of_another_process_is_refused() {
    if let Some(path) = std::env::var_os(DATABASE) {
        let error = start_error(Path::new(&path)).await;
        assert!(matches!(error, ServerStartError::Locked { .. }), "{error}");
        println!("refused");
        return;
    }
    let (_folder, path) = scratch();
    let server = Server::builder().sqlite(&path).start().await.unwrap();
    let output = child("a_server_of_another_process_is_refused", &path).output().unwrap();
    assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("refused"), "{output:?}");
    create(&server.client()).await;
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_crash() {
    if let Some(path) = std::env::var_os(DATABASE) {
        let server = Server::builder().sqlite(PathBuf::from(path)).start().await.unwrap();
        for _ in 0..20 {
            println!("run {}", create(&server.client()).await);
        }
        std::io::stdout().flush().unwrap();
        std::process::abort();
    }
    let (_folder, path) = scratch();
    let output = child("what_was_acknowledged_survives_a_crash", &path).output().unwrap();
    assert!(!output.status.success());
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let runs: Vec<RunId> = stdout.lines().filter_map(|line| line.split("run ").nth(1)?.parse().ok()).collect();
    assert_eq!(runs.len(), 20, "{output:?}");
    let server = Server::builder().sqlite(&path).start().await.unwrap();
    for run in runs {
        assert_eq!(server.client().server().get_run(run).await.unwrap().state.status(), RunStatus::Queued);
    }
    server.close().await;
    assert_intact(&path);
}

#[tokio::test]
async fn a_reopened_store_has_every_run_and_goes_on() {
    let (_folder, path) = scratch();
    let first = Kept::sqlite_at(&path, Arc::default()).await;
    let client = first.client();
    let (queued, claimed, asleep) = (create(&client).await, create(&client).await, create(&client).await);
    let pass = claim(&client, "w", claimed).await;
    let mut sleeper = claim(&client, "w", asleep).await;
    sleeper.report(vec![Pass::sleep(0, Duration::from_secs(600)), Transition::Suspended]).await;
    let mut before = Vec::new();
    for run in [queued, asleep] {
        before.push(client.server().get_run(run).await.unwrap());
    }
    let clock = first.clock.clone();
    // Dropped, not closed.
    let stale = pass.claim().epoch;
    drop((client, pass, sleeper, first));

    let second = Kept::sqlite_at(&path, clock).await;
    let client = second.client();
    for record in before {
        assert_eq!(client.server().get_run(record.id).await.unwrap(), record);
    }
    second.recorder().announced(queued, 1).await;
    // Its worker lived in the process that ended: nobody waits for its lease.
    second.recorder().announced(claimed, 1).await;
    let late = Report {
        run: claimed,
        epoch: stale,
        seq: 1,
        signals: 0,
        transitions: vec![Transition::Completed { output: None }],
    };
    assert_eq!(client.server().report(late).await, Err(ServerError::ClaimLost(claimed)));
    second.advance(Duration::from_secs(600)).await;
    second.recorder().announced(asleep, 1).await;
    for run in [queued, claimed, asleep] {
        claim(&client, "v", run).await.finish().await;
    }
    second.server().close().await;
    assert_intact(&path);
}

#[tokio::test]
async fn a_claim_that_was_granted_again_is_fenced_after_a_restart() {
    let (_folder, path) = scratch();
    let first = Kept::sqlite_at(&path, Arc::default()).await;
    let run = create(&first.client()).await;
    // The first answer was lost on its way.
    claim(&first.client(), "w", run).await;
    let mut stale = claim(&first.client(), "w", run).await;
    let clock = first.clock.clone();
    first.server().close().await;

    let second = Kept::sqlite_at(&path, clock).await;
    let successor = claim(&second.client(), "v", run).await;
    assert!(successor.claimed.epoch > stale.claimed.epoch, "two claims of the same number");
    let late = stale.next(vec![Transition::Completed { output: None }]);
    assert_eq!(second.client().server().report(late).await, Err(ServerError::ClaimLost(run)));
    successor.finish().await;
}

/// Holds the write lock of the file for this long, beginning now.
fn keep_locked(path: &Path, time: Duration) -> std::thread::JoinHandle<()> {
    let foreign = Connection::open(path).unwrap();
    foreign.busy_timeout(Duration::from_secs(5)).unwrap();
    foreign.execute_batch("BEGIN IMMEDIATE").unwrap();
    std::thread::spawn(move || {
        std::thread::sleep(time);
        foreign.execute_batch("ROLLBACK").unwrap();
    })
}

#[tokio::test]
async fn commits_that_take_half_a_second_cost_time_and_lose_nothing() {
    let (_folder, path) = scratch();
    let server = Server::builder().sqlite(&path).start().await.unwrap();
    let client = server.client();
    let mut runs = Vec::new();
    for _ in 0..3 {
        let slow = keep_locked(&path, Duration::from_millis(500));
        // All of them wait for the same commit, or the next.
        let created = futures::future::join_all((0..20).map(|_| create(&client))).await;
        slow.join().unwrap();
        for run in &created {
            assert_eq!(client.server().get_run(*run).await.unwrap().state.status(), RunStatus::Queued);
        }
        runs.extend(created);
    }
    runs.sort_unstable();
    runs.dedup();
    assert_eq!(runs.len(), 60);
    server.close().await;
    assert_intact(&path);
}
