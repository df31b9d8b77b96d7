//! The disk of Postgres is full. Needs root, to mount a small disk.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, reason = "for tests")]

mod support;

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use aiki_conformance::server::{claim, create, request, status};
use aiki_core::run::plan::CreateRun;
use aiki_core::run::{Reference, RunStatus};
use aiki_core::server_client::CreatedRun;
use aiki_core::{Client, Payload, ServerError};
use support::{SELDOM, on};
use tempfile::TempDir;
use test_postgres::{PostgresServer, Schema};
use tokio::time::{sleep, timeout};

/// Far longer than anything takes here.
const PATIENCE: Duration = Duration::from_secs(30);
/// Says that nothing may be mounted here: the test is left out then.
const NO_MOUNT: &str = "AIKI_TEST_NO_MOUNT";

/// A disk of 16 MB. It ends with this value.
struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// `None`: it is not wanted.
    fn mount() -> Option<Self> {
        if std::env::var(NO_MOUNT).is_ok_and(|value| value == "1") {
            println!("left out: {NO_MOUNT} is 1");
            return None;
        }
        let folder = tempfile::Builder::new().prefix("aiki-small-disk-").tempdir().unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=16m", "tmpfs"]).arg(folder.path()).output();
        let mounted = mount.as_ref().is_ok_and(|mount| mount.status.success());
        assert!(mounted, "no small disk ({mount:?}): run this test as root, or set {NO_MOUNT}=1 to leave it out");
        let disk = Self { folder };
        let owned = Command::new("chown").arg("postgres").arg(disk.folder.path()).status().unwrap();
        assert!(owned.success(), "there is no user postgres");
        Some(disk)
    }

    fn ballast(&self) -> PathBuf {
        self.folder.path().join("ballast")
    }

    /// Leaves no byte free.
    fn fill(&self) {
        let mut file = File::options().create(true).append(true).open(self.ballast()).unwrap();
        let mut piece = 1 << 20;
        while piece > 0 {
            match file.write(&vec![1; piece]) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => piece /= 2,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Also while somebody has a file of it open.
        let _ = Command::new("umount").arg("--lazy").arg(self.folder.path()).status();
    }
}

/// JSON text of this length that hardly compresses.
fn large(bytes: usize) -> String {
    let next = |state: &u64| Some(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    let words = std::iter::successors(Some(1_u64), next).take(bytes / 16);
    format!("\"{}\"", words.map(|word| format!("{word:016x}")).collect::<String>())
}

async fn start(client: &Client, reference: &str) -> Result<CreatedRun, ServerError> {
    let reference = Some(Reference { id: reference.into(), conflict_policy: Default::default() });
    let input = Payload::from_json(large(4_000)).ok();
    client.server().create_run(CreateRun { reference, input, ..request("1") }).await
}

#[tokio::test]
async fn a_full_disk_refuses_keeps_what_was_acknowledged_and_heals_without_a_restart() {
    let Some(disk) = SmallDisk::mount() else { return };
    let postgres = PostgresServer::start().await;
    let schema = Schema::fresh_in(postgres.url());
    // Its log has a disk of its own: when that one is full Postgres ends itself, which is a crash like any other.
    let admin = test_postgres::connect(&schema.url, "public").await;
    let place = disk.folder.path().display();
    admin.batch_execute(&format!("CREATE TABLESPACE small LOCATION '{place}'")).await.unwrap();
    admin.batch_execute("ALTER DATABASE postgres SET default_tablespace = small").await.unwrap();
    let server = on(&schema).look_every(SELDOM).start().await.unwrap();
    let client = server.client();
    let held = create(&client).await;
    let mut pass = claim(&client, "w", held).await;
    let mut kept = Vec::new();
    for at in 0..50 {
        let reference = format!("early{at}");
        kept.push((start(&client, &reference).await.unwrap().id, reference));
    }

    disk.fill();
    let refused = loop {
        // Pages that Postgres already has take some more.
        let reference = format!("r{}", kept.len());
        match start(&client, &reference).await {
            Ok(created) => kept.push((created.id, reference)),
            Err(error) => break error,
        }
        assert!(kept.len() < 10_000, "the disk does not get full");
    };
    let clear = |error: &ServerError| matches!(error, ServerError::Unavailable(text) if text.contains("disk is full"));
    assert!(clear(&refused), "{refused}");
    for at in 0..20 {
        let error = start(&client, &format!("again{at}")).await.unwrap_err();
        assert!(clear(&error), "{error}");
    }
    // A report that does not fit is refused in the same way and can be repeated.
    let transitions: Vec<_> = std::iter::once(pass.open(0)).chain([pass.complete(0, &large(100_000))]).collect();
    let report = pass.next(transitions);
    let error = client.server().report(report.clone()).await.unwrap_err();
    assert!(clear(&error), "{error}");
    for (run, _) in kept.iter().rev().take(50) {
        assert_eq!(status(&client, *run).await, RunStatus::Queued, "what there is can be read");
    }
    println!("full after {} runs: {refused}", kept.len());

    disk.free();
    let healed = async {
        while start(&client, "after").await.is_err() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, healed).await.expect("it heals by itself");
    client.server().report(report).await.unwrap();
    assert_eq!(client.server().get_run(held).await.unwrap().tasks.len(), 1);
    pass.finish().await;
    assert_eq!(status(&client, held).await, RunStatus::Completed);
    let stored: i64 = schema.connect().await.query_one_scalar("SELECT count(*) FROM runs", &[]).await.unwrap();
    assert_eq!(stored, kept.len() as i64 + 2, "what was refused is not there");
    for (run, reference) in kept {
        assert_eq!(start(&client, &reference).await.unwrap().id, run);
    }
    server.close().await;
}
