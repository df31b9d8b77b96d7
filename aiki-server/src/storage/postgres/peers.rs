//! What servers tell each other: notices of commits, and the table of workers.

use std::future::poll_fn;
use std::sync::Arc;

use aiki_core::server_client::WorkerServes;
use aiki_core::{Name, Timestamp};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_postgres::{AsyncMessage, Client, Connection, Error, NoTls, Socket};

use super::columns::{to_column, to_timestamp};
use super::config::Target;
use super::link::set_up;
use super::{ANSWER_LIMIT, CONNECT_LIMIT};
use crate::storage::StorageError;
use crate::workers::KnownWorker;

/// At most so many notices wait to be read; when there are more, the connection is made anew, and everything is looked
/// at again.
const NOTICES: usize = 1_024;
/// Rows of workers that are not heard of go after this time, in milliseconds.
const WORKERS_FOR: u64 = 24 * 3_600 * 1_000;

/// Leads to the other servers.
pub(crate) struct PeerLink {
    target: Arc<Target>,
}

/// A connection on which notices come.
pub(crate) struct PeerSession {
    client: Client,
    schema: String,
    notices: Receiver<String>,
}

impl PeerLink {
    pub(super) fn new(target: Arc<Target>) -> Self {
        Self { target }
    }

    /// Connects and listens. What was committed before has to be looked up.
    pub(crate) async fn connect(&self) -> Result<PeerSession, StorageError> {
        let connecting = async {
            let (sender, notices) = channel(NOTICES);
            let config = &self.target.config;
            let client = match self.target.tls.clone() {
                Some(tls) => listen(config.connect(tls).await?, sender),
                None => listen(config.connect(NoTls).await?, sender),
            };
            set_up(&client, &self.target).await?;
            client.batch_execute(&format!("LISTEN \"aiki:{}\"", self.target.schema)).await?;
            Ok(PeerSession { client, schema: self.target.schema.clone(), notices })
        };
        match tokio::time::timeout(CONNECT_LIMIT, connecting).await {
            Ok(connected) => connected.map_err(|error: Error| error.into()),
            Err(_) => Err(StorageError::Unreachable(format!("no connection within {CONNECT_LIMIT:?}"))),
        }
    }
}

/// Drives the connection and passes notices on. It ends when they are not read.
fn listen<S>((client, mut connection): (Client, Connection<Socket, S>), notices: Sender<String>) -> Client
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notification(notice) = message
                && notices.try_send(notice.payload().to_owned()).is_err()
            {
                return;
            }
        }
    });
    client
}

impl PeerSession {
    /// The next notice; `None` when the connection is lost. Cancel-safe.
    pub(crate) async fn notice(&mut self) -> Option<String> {
        self.notices.recv().await
    }

    /// Writes down what this server knows of workers.
    pub(crate) async fn tell(&self, workers: &[KnownWorker]) -> Result<(), StorageError> {
        const UPSERT: &str = "
            INSERT INTO workers AS k (namespace, name, last_seen, serves, serves_at)
            SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::bigint[])
            ON CONFLICT (namespace, name) DO UPDATE SET
                last_seen = greatest(k.last_seen, excluded.last_seen),
                serves = CASE WHEN excluded.serves_at >= coalesce(k.serves_at, 0) THEN excluded.serves ELSE k.serves END,
                serves_at = greatest(k.serves_at, excluded.serves_at)";
        if workers.is_empty() {
            return Ok(());
        }
        // In one order, so that two servers do not wait for each other crosswise.
        let mut workers: Vec<&KnownWorker> = workers.iter().collect();
        workers.sort_unstable_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        let namespaces: Vec<&str> = workers.iter().map(|worker| worker.namespace.as_str()).collect();
        let names: Vec<&str> = workers.iter().map(|worker| worker.name.as_str()).collect();
        let seen: Vec<i64> = workers.iter().map(|worker| to_column(worker.last_seen.as_millis())).collect();
        let json = |serves: &WorkerServes| {
            serde_json::to_string(&(&serves.workflows, &serves.pools))
                .map_err(|error| StorageError::Failed(error.to_string()))
        };
        let serves = workers.iter().map(|worker| worker.serves.as_ref().map(|(serves, _)| json(serves)).transpose());
        let serves = serves.collect::<Result<Vec<_>, _>>()?;
        let said = |worker: &&KnownWorker| worker.serves.as_ref().map(|(_, at)| to_column(at.as_millis()));
        let said: Vec<Option<i64>> = workers.iter().map(said).collect();
        within(self.client.execute(UPSERT, &[&namespaces, &names, &seen, &serves, &said])).await.map(drop)
    }

    /// Tells the other servers something.
    pub(crate) async fn say(&self, notice: &str) -> Result<(), StorageError> {
        let channel = format!("aiki:{}", self.schema);
        within(self.client.execute("SELECT pg_notify($1, $2)", &[&channel, &notice])).await.map(drop)
    }

    /// The workers that were heard of since `since`, at most `limit`, the latest first.
    pub(crate) async fn workers(&self, since: Timestamp, limit: usize) -> Result<Vec<KnownWorker>, StorageError> {
        const SELECT: &str = "
            SELECT namespace, name, last_seen, serves, serves_at FROM workers WHERE last_seen >= $1
            ORDER BY last_seen DESC LIMIT $2";
        let key = (to_column(since.as_millis()), to_column(limit as u64));
        let rows = within(self.client.query(SELECT, &[&key.0, &key.1])).await?;
        let mut workers = Vec::with_capacity(rows.len());
        for row in rows {
            let text: Option<&str> = row.try_get(3)?;
            // What a newer version wrote is not known to this one.
            let serves = text.and_then(|text| serde_json::from_str(text).ok());
            let serves = serves.map(|(workflows, pools)| WorkerServes { workflows, pools });
            let said: Option<i64> = row.try_get(4)?;
            workers.push(KnownWorker {
                namespace: Name::new(row.try_get::<_, String>(0)?),
                name: Name::new(row.try_get::<_, String>(1)?),
                last_seen: to_timestamp(row.try_get(2)?),
                serves: serves.zip(said.map(to_timestamp)),
            });
        }
        Ok(workers)
    }

    /// Removes what nobody needs any more: workers that are gone, and fences of keys that no batch still counts on.
    pub(crate) async fn tidy(&self, now: Timestamp) -> Result<(), StorageError> {
        let gone = to_column(now.as_millis().saturating_sub(WORKERS_FOR));
        within(self.client.execute("DELETE FROM workers WHERE last_seen < $1", &[&gone])).await?;
        let fences = "DELETE FROM slot_keys WHERE touched_at < now() - interval '1 day'";
        within(self.client.execute(fences, &[])).await.map(drop)
    }
}

async fn within<T>(answer: impl Future<Output = Result<T, Error>>) -> Result<T, StorageError> {
    match tokio::time::timeout(ANSWER_LIMIT, answer).await {
        Ok(answer) => answer.map_err(Into::into),
        Err(_) => Err(StorageError::Unreachable(format!("no answer within {ANSWER_LIMIT:?}"))),
    }
}
