//! What fred does where its documentation leaves room. The Redis subscriber is built on these answers;
//! when one of them changes with an upgrade, so must the subscriber.
//!
//! Real time: Redis's blocking reads are timed by Redis.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::time::Duration;

use fred::clients::Client;
use fred::error::{Error, ErrorKind};
use fred::interfaces::{ClientLike, StreamsInterface};
use fred::types::config::{Blocking, Config, Options, ReconnectPolicy};
use fred::types::{Builder, ConnectHandle, Value};
use integration_tests::redis::{Mode, Proxy, RedisServer, command, connect};

const SHORT: Duration = Duration::from_millis(80);

async fn reader(url: &str, policy: Option<ReconnectPolicy>, attempts: u32) -> (Client, ConnectHandle) {
    let mut config = Config::from_url(url).unwrap();
    config.blocking = Blocking::Error;
    let mut builder = Builder::from_config(config);
    builder.with_connection_config(|connection| connection.max_command_attempts = attempts);
    if let Some(policy) = policy {
        builder.set_policy(policy);
    }
    let client = builder.build().unwrap();
    let handle = client.init().await.unwrap();
    (client, handle)
}

async fn read<R: fred::types::FromValue>(client: &Client, block: u64) -> Result<R, Error> {
    client.xreadgroup("group", "me", Some(10), Some(block), false, "stream", ">").await
}

/// Fact 1. A read that finds nothing answers nil, which is a `Value::Null`, not an error, and `None` as an
/// option; only the conversion to a map is an error. While the read waits, other commands are refused.
#[tokio::test]
async fn a_quiet_read_is_nil_and_a_blocked_client_refuses_commands() {
    let server = RedisServer::start().await;
    let (client, _handle) = reader(&server.url(), None, 1).await;
    command::<()>(&client, "XGROUP CREATE stream group 0 MKSTREAM").await;

    assert!(matches!(read::<Value>(&client, 20).await, Ok(Value::Null)));
    assert!(matches!(read::<Option<Value>>(&client, 20).await, Ok(None)));
    let map: Result<std::collections::HashMap<String, Value>, _> = client
        .xreadgroup_map("group", "me", Some(10), Some(20), false, "stream", ">")
        .await
        .map(|map: fred::types::streams::XReadResponse<String, String, String, Value>| {
            map.into_keys().map(|key| (key, Value::Null)).collect()
        });
    assert_eq!(map.unwrap_err().kind(), &ErrorKind::Parse);

    let blocked = client.clone();
    let waiting = tokio::spawn(async move { read::<Value>(&blocked, 80).await });
    tokio::time::sleep(Duration::from_millis(30)).await;
    let refused = client.ping::<Value>(None).await.unwrap_err();
    assert_eq!(refused.kind(), &ErrorKind::InvalidCommand, "{refused}");
    assert!(matches!(waiting.await.unwrap(), Ok(Value::Null)));
}

/// Fact 2. With several attempts and a reconnect policy, an XADD whose reply was lost is sent again and adds
/// a second entry; with one attempt it is not, and the caller is told.
#[tokio::test]
async fn an_xadd_whose_reply_is_lost_is_sent_again_unless_forbidden() {
    for (attempts, entries) in [(3, 2), (1, 1)] {
        let server = RedisServer::start().await;
        let proxy = Proxy::to(server.port()).await;
        let policy = ReconnectPolicy::new_constant(0, 20);
        let (client, _handle) = reader(&proxy.url(), Some(policy), attempts).await;
        proxy.set(Mode::DropReplies);
        let adding = client.clone();
        let adding = tokio::spawn(async move {
            adding.xadd::<Value, _, _, _, _>("stream", false, None::<()>, "*", ("run", "1")).await
        });
        let admin = connect(&server.url()).await;
        while command::<u64>(&admin, "XLEN stream").await == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        proxy.set(Mode::Cut);
        tokio::time::sleep(Duration::from_millis(10)).await;
        proxy.set(Mode::Pass);
        let answer = adding.await.unwrap();
        assert_eq!(answer.is_ok(), attempts > 1, "{answer:?}");
        assert_eq!(command::<u64>(&admin, "XLEN stream").await, entries, "with {attempts} attempts");
    }
}

/// Fact 3. A blocked read on a half-open connection never ends by itself, though the block time is long over.
/// Aborting the connection's task closes the socket and ends the read; a client without a policy is then dead.
#[tokio::test]
async fn a_half_open_read_hangs_until_the_connection_task_is_aborted() {
    let server = RedisServer::start().await;
    let proxy = Proxy::to(server.port()).await;
    let (client, handle) = reader(&proxy.url(), None, 1).await;
    command::<()>(&client, "XGROUP CREATE stream group 0 MKSTREAM").await;
    let blocked = client.clone();
    let mut waiting = tokio::spawn(async move { read::<Value>(&blocked, 10).await });
    proxy.set(Mode::BlackHole);
    assert!(tokio::time::timeout(SHORT, &mut waiting).await.is_err(), "it ended by itself");

    handle.abort();
    let error = waiting.await.unwrap().unwrap_err();
    // Not Canceled: the kind alone does not tell that the connection is gone.
    assert_eq!((error.kind(), error.details()), (&ErrorKind::Unknown, "channel closed"));
    let admin = connect(&server.url()).await;
    let gone = async {
        while command::<String>(&admin, "CLIENT LIST").await.lines().count() > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), gone).await.expect("the server sees the connection closed");
}

/// Fact 4. A read that fred times out is not taken back: Redis delivers the entry to it, fred throws the reply
/// away, and the entry is in the reader's own pending list, where no later read of new entries finds it.
#[tokio::test]
async fn a_timed_out_read_leaves_its_entries_in_the_readers_pending_list() {
    let server = RedisServer::start().await;
    let (client, _handle) = reader(&server.url(), None, 1).await;
    command::<()>(&client, "XGROUP CREATE stream group 0 MKSTREAM").await;
    let options = Options { timeout: Some(Duration::from_millis(20)), ..Options::default() };
    let answer: Result<Value, Error> =
        client.with_options(&options).xreadgroup("group", "me", Some(10), Some(2_000), false, "stream", ">").await;
    assert_eq!(answer.unwrap_err().kind(), &ErrorKind::Timeout);

    let admin = connect(&server.url()).await;
    command::<()>(&admin, "XADD stream * run 1").await;
    let pending: Value = command(&admin, "XPENDING stream group - + 10 me").await;
    assert_eq!(pending.array_len(), Some(1), "{pending:?}");
    assert!(matches!(read::<Value>(&client, 20).await, Ok(Value::Null)));
}
