//! The SQLite store's file: by what names it goes, who has it, how large its log grows.
#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "for tests")]

use std::future::{Future, poll_fn};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use aiki_conformance::server::{Recorder, create, request};
use aiki_server::{Server, ServerStartError};

async fn start_error(path: &Path) -> ServerStartError {
    Server::builder().sqlite(path).start().await.expect_err("the server must not start")
}

#[tokio::test]
async fn a_database_in_memory_is_refused_and_the_memory_store_named() {
    for text in [":memory:", "", "aiki.db?mode=rwc"] {
        let error = start_error(Path::new(text)).await;
        assert!(matches!(error, ServerStartError::NotAPath { .. }), "{text}: {error}");
        assert!(error.to_string().contains("Server::builder().memory()"), "{error}");
        assert!(!Path::new(text).exists(), "{text} was made");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_second_server_is_refused_whatever_the_file_is_called() {
    let folder = tempfile::tempdir().unwrap();
    let (real, by_folder) = (folder.path().join("real"), folder.path().join("by-folder"));
    std::fs::create_dir(&real).unwrap();
    std::os::unix::fs::symlink(&real, &by_folder).unwrap();
    // The file is not there yet: its folder counts.
    let first = Server::builder().sqlite(by_folder.join("aiki.db")).start().await.unwrap();
    assert!(matches!(start_error(&real.join("aiki.db")).await, ServerStartError::Locked { .. }));
    let by_file = folder.path().join("link.db");
    std::os::unix::fs::symlink(real.join("aiki.db"), &by_file).unwrap();
    assert!(matches!(start_error(&by_file).await, ServerStartError::Locked { .. }));
    first.close().await;
    let second = Server::builder().sqlite(&by_file).start().await.unwrap();
    assert!(matches!(start_error(&by_folder.join("aiki.db")).await, ServerStartError::Locked { .. }));
    second.close().await;
}

/// Polls a future until it is done, or until it was woken for the `times`-th time; drops it then.
async fn poll_times<F: Future>(future: F, times: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = times;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(context).map(Some)
    })
    .await
}

/// Starts a server. A file that somebody was just opening is let go of once it is open.
async fn start_soon(path: &Path) -> Result<Server, ServerStartError> {
    for _ in 0..200 {
        match Server::builder().sqlite(path).start().await {
            Err(ServerStartError::Locked { .. }) => tokio::time::sleep(Duration::from_millis(10)).await,
            started => return started,
        }
    }
    Server::builder().sqlite(path).start().await
}

#[tokio::test]
async fn a_start_that_is_given_up_leaves_the_file_free() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("aiki.db");
    let server = Server::builder().sqlite(&path).start().await.unwrap();
    create(&server.client()).await;
    server.close().await;
    for times in 1.. {
        let start = Server::builder().sqlite(&path).publisher(Arc::new(Recorder::default())).start();
        match poll_times(start, times).await {
            None => {
                start_soon(&path).await.unwrap_or_else(|error| panic!("given up after {times}: {error}")).close().await;
            }
            Some(started) => {
                started.unwrap().close().await;
                assert!(times > 1, "nothing was given up half-way");
                return;
            }
        }
    }
}

#[tokio::test]
async fn the_log_does_not_grow_with_the_size_of_payloads() {
    const STARTS: u64 = 140;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("aiki.db");
    let server = Server::builder().sqlite(&path).start().await.unwrap();
    let client = server.client();
    let input = format!("\"{}\"", "x".repeat(900_000));
    for _ in 0..STARTS {
        client.server().create_run(request(&input)).await.unwrap();
    }
    let log = std::fs::metadata(folder.path().join("aiki.db-wal")).unwrap().len();
    assert!(log < 80_000_000, "{log} of the {} bytes that were written", STARTS * 900_000);
    server.close().await;
}
