//! What is done to Redis, and what is found there.

use std::time::Duration;

use fred::clients::Client;
use fred::interfaces::ClientLike;
use fred::types::config::Config;
use fred::types::{Builder, ClusterHash, CustomCommand, FromValue, Value};
use tokio::time::{Instant, sleep, timeout};

use super::house::Broken;

/// How long one command may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long entries to copy are waited for.
const ENTRIES: Duration = Duration::from_secs(5);
/// At most so many entries of a stream are copied.
const COPIES: &str = "50";

/// The group of every stream.
const GROUP: &str = "aiki-workers";
/// What is in no worker's hands.
const RETURNED: &str = "aiki-returned";

/// Connects. Redis listens before it has read what it has on disk.
async fn connect(url: &str) -> Result<Client, Broken> {
    let begun = Instant::now();
    loop {
        match ready(url).await {
            Err(error) if begun.elapsed() > PATIENCE => return Err(error),
            Err(_) => sleep(Duration::from_millis(20)).await,
            client => return client,
        }
    }
}

async fn ready(url: &str) -> Result<Client, Broken> {
    let client = Builder::from_config(Config::from_url(url)?).build()?;
    timeout(PATIENCE, client.init()).await??;
    ask::<Value>(&client, &[b"PING"]).await?;
    Ok(client)
}

async fn ask<R: FromValue>(client: &Client, words: &[&[u8]]) -> Result<R, Broken> {
    let name = String::from_utf8_lossy(words[0]).into_owned();
    let arguments: Vec<Value> = words[1..].iter().map(|word| Value::Bytes(word.to_vec().into())).collect();
    let command = CustomCommand::new(name, ClusterHash::FirstKey, false);
    Ok(timeout(PATIENCE, client.custom(command, arguments)).await??)
}

async fn keys(client: &Client) -> Result<Vec<String>, Broken> {
    ask(client, &[b"KEYS", b"aiki:wf:*"]).await
}

/// FLUSHALL.
pub async fn flush(url: &str) -> Result<(), Broken> {
    ask::<Value>(&connect(url).await?, &[b"FLUSHALL"]).await.map(drop)
}

/// Deletes every stream.
pub async fn delete(url: &str) -> Result<(), Broken> {
    let client = connect(url).await?;
    for key in keys(&client).await? {
        ask::<Value>(&client, &[b"DEL", key.as_bytes()]).await?;
    }
    Ok(())
}

/// Destroys every group.
pub async fn destroy_groups(url: &str) -> Result<(), Broken> {
    let client = connect(url).await?;
    for key in keys(&client).await? {
        ask::<Value>(&client, &[b"XGROUP", b"DESTROY", key.as_bytes(), GROUP.as_bytes()]).await?;
    }
    Ok(())
}

/// Moves every group to the end of its stream.
pub async fn advance_groups(url: &str) -> Result<(), Broken> {
    let client = connect(url).await?;
    for key in keys(&client).await? {
        // A stream may be without its group at this moment.
        let _ = ask::<Value>(&client, &[b"XGROUP", b"SETID", key.as_bytes(), GROUP.as_bytes(), b"$"]).await;
    }
    Ok(())
}

/// Adds so many copies of every entry. Waits a little for some to be there.
pub async fn duplicate(url: &str, copies: u64) -> Result<(), Broken> {
    let client = connect(url).await?;
    let begun = Instant::now();
    loop {
        let mut copied = 0;
        for key in keys(&client).await? {
            let range: &[&[u8]] = &[b"XRANGE", key.as_bytes(), b"-", b"+", b"COUNT", COPIES.as_bytes()];
            let entries: Vec<(String, Vec<Vec<u8>>)> = ask(&client, range).await?;
            for (_, fields) in &entries {
                let mut words: Vec<&[u8]> = vec![b"XADD", key.as_bytes(), b"*"];
                words.extend(fields.iter().map(Vec::as_slice));
                for _ in 0..copies {
                    ask::<Value>(&client, &words).await?;
                    copied += 1;
                }
            }
        }
        if copied > 0 || begun.elapsed() > ENTRIES {
            return Ok(());
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Adds entries that nobody can read, to every stream. Answers how many.
pub async fn malformed(url: &str) -> Result<u64, Broken> {
    let client = connect(url).await?;
    let large = vec![b'x'; 1_000_000];
    let run = b"01KJKB3Q00WTC4105TP4N00000";
    let entries: [&[&[u8]]; 8] = [
        &[b"x", b"y"],
        &[b"v", b"1"],
        &[b"run", run],
        &[b"v", b"2", b"run", run],
        &[b"v", b"1", b"run", b"\xff\xfe\x00"],
        &[b"v", b"1", b"run", b""],
        &[b"v", b"1", b"run", run, b"hint", &large],
        &[b"v", b"9", b"v", b"1", b"run", run],
    ];
    let mut added = 0;
    for key in keys(&client).await? {
        for entry in entries {
            let mut words: Vec<&[u8]> = vec![b"XADD", key.as_bytes(), b"*"];
            words.extend(entry);
            ask::<Value>(&client, &words).await?;
            added += 1;
        }
    }
    Ok(added)
}

/// What is in Redis.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Entries of all streams.
    pub entries: u64,
    /// Those that somebody holds.
    pub pending: u64,
    /// What each consumer holds.
    pub consumers: Vec<(String, u64)>,
    /// Entries that nobody could read.
    pub dead: u64,
}

/// Looks at all streams.
pub async fn look(url: &str) -> Result<Found, Broken> {
    let client = connect(url).await?;
    let mut found = Found::default();
    for key in keys(&client).await? {
        found.entries += ask::<u64>(&client, &[b"XLEN", key.as_bytes()]).await?;
        let list: &[&[u8]] = &[b"XINFO", b"CONSUMERS", key.as_bytes(), GROUP.as_bytes()];
        // A stream that was deleted has no group until somebody reads it again.
        let Ok(consumers) = ask::<Vec<Vec<Value>>>(&client, list).await else { continue };
        for consumer in consumers {
            let texts: Vec<String> = consumer.iter().map(|value| value.as_string().unwrap_or_default()).collect();
            let value = |name: &str| texts.iter().position(|text| text == name).and_then(|at| texts.get(at + 1));
            let name = value("name").cloned().unwrap_or_default();
            let pending = value("pending").and_then(|text| text.parse().ok()).unwrap_or_default();
            found.pending += pending;
            if name == RETURNED {
                continue;
            }
            match found.consumers.iter_mut().find(|(known, _)| *known == name) {
                Some((_, held)) => *held += pending,
                None => found.consumers.push((name, pending)),
            }
        }
    }
    for key in ask::<Vec<String>>(&client, &[b"KEYS", b"aiki:dead:*"]).await? {
        found.dead += ask::<u64>(&client, &[b"XLEN", key.as_bytes()]).await?;
    }
    Ok(found)
}
