//! One connection to the database that comes back by itself, for a thread that may block.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{Client, Connection, Error, NoTls, Socket, Statement};

use super::config::Target;
use super::{ANSWER_LIMIT, CONNECT_LIMIT, FIRST_PAUSE, IDLE_LIMIT, LOCK_LIMIT, LONGEST_PAUSE, STATEMENT_LIMIT};
use crate::start_error::ServerStartError;
use crate::storage::StorageError;

/// A connection with the statements that it has prepared.
pub(crate) struct Session {
    pub(crate) client: Client,
    statements: HashMap<&'static str, Statement>,
    /// Rows are locked until the batch ends.
    pub(super) in_transaction: bool,
}

impl Session {
    fn new(client: Client) -> Self {
        Self { client, statements: HashMap::new(), in_transaction: false }
    }

    /// The statement, prepared once for each connection. There are as many as the store has questions.
    pub(crate) async fn prepare(&mut self, sql: &'static str) -> Result<Statement, Error> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql).await?;
        self.statements.insert(sql, statement.clone());
        Ok(statement)
    }
}

/// Makes a connection and drives it on the current runtime.
async fn connect(target: &Target) -> Result<Client, Error> {
    let client = match target.tls.clone() {
        Some(tls) => drive(target.config.connect(tls).await?),
        None => drive(target.config.connect(NoTls).await?),
    };
    set_up(&client, target).await?;
    Ok(client)
}

/// Sets the limits of a session.
pub(super) async fn set_up(client: &Client, target: &Target) -> Result<(), Error> {
    // Lists of due and ready runs lie behind indexes, and a commit names its rows: other ways to them are never better,
    // whatever the statistics of a table that was empty a moment ago say. A way that is off and the only one looks so dear
    // that the database would compile the statement.
    let settings = format!(
        "SET search_path = {}; SET lock_timeout = {}; SET statement_timeout = {};
         SET idle_in_transaction_session_timeout = {}; SET default_transaction_isolation = 'read committed';
         SET synchronous_commit = on; SET enable_seqscan = off; SET enable_bitmapscan = off;
         SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off;
         SET plan_cache_mode = force_generic_plan",
        target.schema,
        LOCK_LIMIT.as_millis(),
        STATEMENT_LIMIT.as_millis(),
        IDLE_LIMIT.as_millis(),
    );
    client.batch_execute(&settings).await
}

fn drive<S>((client, connection): (Client, Connection<Socket, S>)) -> Client
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        // Those who use the client see the error as well.
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to the database ended");
        }
    });
    client
}

/// A connection that is made again when it is needed.
pub(crate) struct Link {
    target: Arc<Target>,
    /// Drives the connection while somebody waits for it.
    runtime: Option<Runtime>,
    session: Option<Session>,
    pause: Duration,
    /// Nobody tries before this time.
    next_try: Option<(Instant, String)>,
}

impl Link {
    pub(crate) fn new(target: Arc<Target>) -> Result<Self, ServerStartError> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(ServerStartError::Thread)?;
        Ok(Self { target, runtime: Some(runtime), session: None, pause: FIRST_PAUSE, next_try: None })
    }

    /// Whether the connection was there when it was last looked at, and still is.
    fn is_open(&mut self) -> bool {
        let (Some(session), Some(runtime)) = (&self.session, &self.runtime) else { return false };
        // The connection stood still since it was last used: let it see whether the other side has hung up.
        runtime.block_on(async {
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
        });
        !session.client.is_closed()
    }

    /// Makes the connection when there is none. Refuses at once for a while after it failed.
    fn open(&mut self) -> Result<(), StorageError> {
        if self.is_open() {
            return Ok(());
        }
        self.session = None;
        if let Some((at, reason)) = &self.next_try
            && Instant::now() < *at
        {
            return Err(StorageError::Unreachable(reason.clone()));
        }
        let Some(runtime) = &self.runtime else { return Err(StorageError::Unreachable("it was closed".into())) };
        let connecting = async { tokio::time::timeout(CONNECT_LIMIT, connect(&self.target)).await };
        let failed = match runtime.block_on(connecting) {
            Ok(Ok(client)) => {
                self.session = Some(Session::new(client));
                (self.pause, self.next_try) = (FIRST_PAUSE, None);
                return Ok(());
            }
            Ok(Err(error)) => super::describe(&error),
            Err(_) => format!("no connection within {CONNECT_LIMIT:?}"),
        };
        let reason = format!("{}: {failed}", self.target.place);
        tracing::warn!(reason, pause = ?self.pause, "the database cannot be reached, trying again");
        self.next_try = Some((Instant::now() + self.pause, reason.clone()));
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Err(StorageError::Unreachable(reason))
    }

    /// Does something on the connection. It is done once; when it fails half way, the connection is given up.
    pub(crate) fn once<T, E: Into<StorageError>>(
        &mut self,
        work: impl AsyncFnOnce(&mut Session) -> Result<T, E>,
    ) -> Result<T, StorageError> {
        self.open()?;
        let (Some(runtime), Some(session)) = (&self.runtime, &mut self.session) else {
            return Err(StorageError::Unreachable("it was closed".into()));
        };
        let answer = runtime.block_on(async { tokio::time::timeout(ANSWER_LIMIT, work(session)).await });
        let answer = match answer {
            Ok(answer) => answer.map_err(Into::into),
            Err(_) => Err(StorageError::Unreachable(format!("no answer within {ANSWER_LIMIT:?}"))),
        };
        if matches!(answer, Err(StorageError::Unreachable(_) | StorageError::Unknown(_))) {
            self.session = None;
        }
        answer
    }

    /// Asks something that changes nothing; once more on a new connection when the old one turns out to be lost.
    pub(crate) fn ask<T>(
        &mut self,
        mut work: impl AsyncFnMut(&mut Session) -> Result<T, Error>,
    ) -> Result<T, StorageError> {
        let known = self.session.is_some();
        match self.once(&mut work) {
            Err(StorageError::Unreachable(_)) if known && self.session.is_none() => self.once(&mut work),
            answer => answer,
        }
    }

    /// Ends a transaction that changed nothing.
    pub(super) fn settle(&mut self) -> Result<(), StorageError> {
        let open = self.session.as_mut().is_some_and(|session| std::mem::take(&mut session.in_transaction));
        if open { self.once(async |session| session.client.batch_execute("ROLLBACK").await) } else { Ok(()) }
    }

    /// Makes the first connection, or says why the server cannot start.
    pub(crate) fn first<T>(
        &mut self,
        work: impl AsyncFnOnce(&Client) -> Result<T, ServerStartError>,
    ) -> Result<T, ServerStartError> {
        let target = Arc::clone(&self.target);
        let closed = || ServerStartError::Store("it was closed".into());
        let runtime = self.runtime.as_ref().ok_or_else(closed)?;
        let session = runtime.block_on(async {
            match tokio::time::timeout(CONNECT_LIMIT, connect(&target)).await {
                Ok(connected) => connected.map_err(|error| target.refused(&error)),
                Err(_) => Err(target.silent()),
            }
        })?;
        let answer = runtime.block_on(work(&session));
        self.session = Some(Session::new(session));
        answer
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.session = None;
        if let Some(runtime) = self.runtime.take() {
            // It may be dropped where nobody may block.
            runtime.shutdown_background();
        }
    }
}
