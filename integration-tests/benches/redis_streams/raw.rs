//! What a bare client does: the limit beside which the rest is put.

use std::time::Instant;

use fred::clients::Client;
use fred::interfaces::StreamsInterface;
use fred::types::Value;
use integration_tests::redis::{RedisServer, command, connect};

const STREAM: &str = "raw";
const GROUP: &str = "group";
/// Milliseconds that a read waits.
const BLOCK: u64 = 1_000;

/// A fresh stream, and two connections.
pub(crate) async fn open(redis: &RedisServer) -> (Client, Client) {
    let (writer, reader) = (connect(&redis.url()).await, connect(&redis.url()).await);
    command::<Value>(&writer, &format!("DEL {STREAM}")).await;
    command::<Value>(&writer, &format!("XGROUP CREATE {STREAM} {GROUP} 0 MKSTREAM")).await;
    (writer, reader)
}

pub(crate) async fn add(client: &Client, count: usize) {
    let pipeline = client.pipeline();
    for number in 0..count {
        let fields = vec![("v", "1".to_owned()), ("run", format!("{number:026}"))];
        pipeline.xadd::<(), _, _, _, _>(STREAM, false, None::<()>, "*", fields).await.expect("it is queued");
    }
    pipeline.all::<Vec<Value>>().await.expect("it is added");
}

/// Waits for entries and answers their ids.
pub(crate) async fn read(client: &Client, count: usize) -> Vec<String> {
    let answer: Value = client
        .xreadgroup(GROUP, "worker", Some(count as u64), Some(BLOCK), false, STREAM, ">")
        .await
        .expect("an answer");
    let mut ids = Vec::new();
    for stream in answer.into_array() {
        let entries = stream.into_array().into_iter().nth(1).map(Value::into_array).unwrap_or_default();
        ids.extend(entries.into_iter().filter_map(|entry| entry.into_array().into_iter().next()?.into_string()));
    }
    ids
}

pub(crate) async fn ack(client: &Client, ids: Vec<String>) {
    client.xack::<Value, _, _, _>(STREAM, GROUP, ids).await.expect("it is acknowledged");
}

/// Messages a second, one step after the other.
pub(crate) async fn rate(redis: &RedisServer, messages: usize, batch: usize) -> f64 {
    let (client, _) = open(redis).await;
    let begin = Instant::now();
    let mut done = 0;
    while done < messages {
        add(&client, batch).await;
        let ids = read(&client, batch).await;
        done += ids.len();
        ack(&client, ids).await;
    }
    done as f64 / begin.elapsed().as_secs_f64()
}
