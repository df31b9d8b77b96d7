//! What is asked of Redis about entries: renew, settle, hand back.

use aiki_core::subscriber::{DeliveryLease, Receipt};
use fred::types::Value;
use futures::future::try_join_all;

use crate::classify::Failure;
use crate::key::{GROUP, RETURNED};
use crate::link::Link;
use crate::script::{self, Script};
use crate::streams::{Batch, Streams};

/// Entries in one call of a script: Redis does nothing else meanwhile.
const MAX_ENTRIES: usize = 500;

/// Asks in the name of one consumer.
#[derive(Clone, Debug)]
pub(crate) struct Broker {
    pub(crate) control: Link,
    pub(crate) consumer: String,
    pub(crate) streams: std::sync::Arc<Streams>,
}

impl Broker {
    /// Whether a receipt is of one of its streams. What is asked of it about others it leaves out.
    pub(crate) fn knows(&self, receipt: &Receipt) -> bool {
        self.streams.knows(receipt)
    }

    /// Renews. The answers are in the order of the receipts.
    pub(crate) async fn renew(&self, receipts: &[Receipt]) -> Result<Vec<DeliveryLease>, Failure> {
        let mut leases = vec![DeliveryLease::Gone; receipts.len()];
        for (batch, answer) in self.each(&script::RENEW, receipts, &[]).await? {
            for (place, answer) in batch.places.iter().zip(answer.into_array()) {
                leases[*place] = match answer.as_i64() {
                    Some(1) => DeliveryLease::Mine,
                    Some(2) => DeliveryLease::Others,
                    _ => DeliveryLease::Gone,
                };
            }
        }
        Ok(leases)
    }

    /// Settles: acknowledged and deleted.
    pub(crate) async fn ack(&self, receipts: &[Receipt]) -> Result<(), Failure> {
        self.each(&script::ACK, receipts, &[]).await.map(drop)
    }

    /// Hands back, as idle for so many milliseconds.
    pub(crate) async fn hand_back(&self, receipts: &[Receipt], idle_ms: u64) -> Result<(), Failure> {
        self.each(&script::HAND_BACK, receipts, &[RETURNED.to_owned(), idle_ms.to_string()]).await.map(drop)
    }

    /// Puts back what nobody has looked at.
    pub(crate) async fn put_back(&self, receipts: &[Receipt]) -> Result<(), Failure> {
        self.each(&script::PUT_BACK, receipts, &[]).await.map(drop)
    }

    /// Deletes this consumer from every stream, unless it still holds something there.
    pub(crate) async fn delete_consumer(&self) -> Result<(), Failure> {
        self.delete_consumers(&self.consumer, 0).await
    }

    /// Deletes consumers that hold nothing and have not been heard of for so long: their processes were killed.
    pub(crate) async fn delete_old_consumers(&self, idle_ms: u64) -> Result<(), Failure> {
        self.delete_consumers("", idle_ms).await
    }

    async fn delete_consumers(&self, name: &str, idle_ms: u64) -> Result<(), Failure> {
        for keys in self.streams.all().chunks(MAX_ENTRIES) {
            let asked = keys.iter().map(|stream| {
                let args = vec![GROUP.to_owned(), name.to_owned(), idle_ms.to_string()];
                self.run(&script::DELETE_CONSUMERS, vec![stream.key.clone()], args)
            });
            try_join_all(asked).await?;
        }
        Ok(())
    }

    pub(crate) async fn run(
        &self,
        script: &'static Script,
        keys: Vec<String>,
        args: Vec<String>,
    ) -> Result<Value, Failure> {
        self.control.ask(|client| async move { script.run(&client, keys, args).await }).await
    }

    /// Runs the script on every stream that the receipts are of, all at once.
    async fn each(
        &self,
        script: &'static Script,
        receipts: &[Receipt],
        more: &[String],
    ) -> Result<Vec<(Batch, Value)>, Failure> {
        let parts = self.streams.batches(receipts).into_iter().flat_map(split);
        let asked = parts.map(|batch| async {
            let keys = vec![self.streams.all()[batch.at].key.clone()];
            let mut args = vec![GROUP.to_owned(), self.consumer.clone()];
            args.extend_from_slice(more);
            args.extend_from_slice(&batch.ids);
            self.run(script, keys, args).await.map(|answer| (batch, answer))
        });
        try_join_all(asked).await
    }
}

fn split(batch: Batch) -> Vec<Batch> {
    let parts = batch.ids.chunks(MAX_ENTRIES).zip(batch.places.chunks(MAX_ENTRIES));
    parts.map(|(ids, places)| Batch { at: batch.at, ids: ids.to_vec(), places: places.to_vec() }).collect()
}
