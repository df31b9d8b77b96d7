//! The one read that waits, over all streams at once.

use std::convert::Infallible;
use std::time::Duration;

use fred::clients::Client;
use fred::interfaces::{ClientInterface, StreamsInterface};
use fred::types::{ClientUnblockFlag, Value};
use tokio::time::{Instant, sleep, timeout};

use super::Pump;
use crate::classify::{Failure, Trouble};
use crate::key::GROUP;
use crate::link::{Live, connection_id};
use crate::message::Entry;

/// How often a read that waits is told that the subscription ends: it may not have begun yet.
const UNBLOCK_AGAIN: Duration = Duration::from_millis(20);

impl Pump {
    /// Waits for new entries until the next thing is due, at most the block time.
    pub(crate) async fn wait_and_read(&mut self, free: usize) -> Result<(), Failure> {
        let until_sweep = self.state.next_sweep.saturating_duration_since(Instant::now());
        // 0 would mean to wait for ever.
        let block = self.timing.block.min(until_sweep).max(Duration::from_millis(1));
        let block_ms = u64::try_from(block.as_millis()).unwrap_or(u64::MAX).max(1);
        let keys: Vec<String> = (self.streams.all().iter().zip(&self.state.broken))
            .filter(|(_, broken)| !**broken)
            .map(|(stream, _)| stream.key.clone())
            .collect();
        if keys.is_empty() {
            sleep(block).await;
            return Ok(());
        }
        // COUNT is for each stream. A read that waited gets the entries of one stream; one that did not need to
        // wait may get those of many.
        let count = (free / keys.len()).max(1) as u64;
        let ids = vec![">"; keys.len()];
        let Live { client, generation } = self.reader.live()?;
        let reading = client.clone();
        let consumer = self.broker.consumer.clone();
        let read = async move {
            reading
                .xreadgroup::<Value, _, _, _, _>(GROUP, consumer, Some(count), Some(block_ms), false, keys, ids)
                .await
        };
        // Never dropped half-way: what it brings is ours.
        let read = timeout(self.timing.read_deadline(), read);
        tokio::pin!(read);
        let answer = tokio::select! {
            answer = &mut read => answer,
            () = self.intake.closing() => {
                tokio::select! {
                    answer = &mut read => answer,
                    never = self.unblock(connection_id(&client)) => match never {},
                }
            }
        };
        let answer = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                let failure = Failure::from(error);
                match failure.trouble {
                    Trouble::Moved => self.reader.give_up_after(&failure),
                    _ if failure.ends_connection() => self.reader.abandon(generation),
                    _ => {}
                }
                return Err(failure);
            }
            Err(_) => {
                self.reader.abandon(generation);
                return Err(Failure::new(Trouble::Connection, "a waiting read was not answered"));
            }
        };
        self.counters.mark(|moments, now| moments.read = Some(now));
        let mut entries = self.parse_read(answer);
        if entries.is_empty() {
            return Ok(());
        }
        // There may be more where this came from.
        self.state.drained = false;
        let surplus = entries.split_off(free.min(entries.len()));
        self.accept(entries).await;
        let receipts: Vec<_> = surplus.iter().map(|(at, entry)| self.streams.receipt(*at, &entry.id)).collect();
        if receipts.is_empty() { Ok(()) } else { self.give_up(&receipts).await }
    }

    /// Wakes the connection with this number, for ever.
    async fn unblock(&self, id: Option<i64>) -> Infallible {
        loop {
            if let Some(id) = id {
                let wake = |client: Client| async move {
                    client.client_unblock::<Value, _>(id, Some(ClientUnblockFlag::Timeout)).await
                };
                // Without an answer the read ends when its block time is over.
                let _ = self.broker.control.ask(wake).await;
            }
            sleep(UNBLOCK_AGAIN).await;
        }
    }

    /// `[[stream, [entry, ...]], ...]`, or nil.
    fn parse_read(&self, answer: Value) -> Vec<(usize, Entry)> {
        if answer.is_null() {
            return Vec::new();
        }
        let mut entries = Vec::new();
        for stream in answer.into_array() {
            let mut parts = stream.into_array().into_iter();
            let key = parts.next().and_then(Value::into_string).unwrap_or_default();
            let (Some(at), Some(found)) = (self.streams.place(&key), parts.next()) else { continue };
            entries.extend(found.into_array().into_iter().filter_map(Entry::parse).map(|entry| (at, entry)));
        }
        entries
    }
}
