//! One connection that is always being kept: built, watched, torn down and built again.
//!
//! fred's own reconnecting is not used. It would send commands again whose answers were lost, it has no
//! jitter at its longest pause, and it does not notice a half-open connection on which a read waits.

use std::sync::Arc;
use std::time::Duration;

use fred::clients::Client;
use fred::interfaces::{ClientInterface, ClientLike};
use fred::types::config::{Blocking, TcpConfig};
use fred::types::{Builder, ClusterHash, ConnectHandle, CustomCommand, Value};
use socket2::TcpKeepalive;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::chance;
use crate::classify::{Failure, Trouble};
use crate::health::{Counters, ReconnectCause};
use crate::place::{Node, Place};
use crate::timing::Timing;
use crate::url::RedisUrl;

/// Commands that may wait to be written to one connection.
const MAX_QUEUED: usize = 10_000;
/// How long a connection is asked to end before it is cut.
const FAREWELL: Duration = Duration::from_millis(200);

/// A connection that the other side ends so soon was none: a port may accept for a Redis that is gone.
const BRIEF: Duration = Duration::from_secs(1);

/// Given up for this generation, no connection is built any more.
const NO_MORE: u64 = u64::MAX;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Waiting reads, and nothing else.
    Reader,
    /// Everything that is answered at once.
    Control,
    /// Asking whether Redis is well.
    Health,
}

/// A kept connection. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    current: watch::Receiver<Current>,
    /// The last connection that somebody gave up.
    abandoned: Arc<watch::Sender<u64>>,
    place: Place,
    counters: Arc<Counters>,
    suspicious: Duration,
}

#[derive(Clone, Debug)]
struct Current {
    /// Counts the connections.
    generation: u64,
    client: Result<Client, Failure>,
    /// Where the last one went.
    node: Option<Node>,
}

/// A live connection.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    pub(crate) client: Client,
    pub(crate) generation: u64,
}

impl Link {
    /// Begins to keep a connection, on the calling runtime.
    pub(crate) fn keep(url: RedisUrl, place: Place, timing: Timing, role: Role, counters: Arc<Counters>) -> Self {
        let nothing_yet = Failure::new(Trouble::Connection, format!("not connected to {url} yet"));
        let (publish, current) = watch::channel(Current { generation: 0, client: Err(nothing_yet), node: None });
        let (abandoned, given_up) = watch::channel(0);
        let keeper = Keeper { url, place: place.clone(), timing, role, publish, given_up, counters: counters.clone() };
        tokio::spawn(keeper.run());
        Self { current, abandoned: Arc::new(abandoned), place, counters, suspicious: timing.suspicious() }
    }

    /// The connection, if there is one at this moment.
    pub(crate) fn live(&self) -> Result<Live, Failure> {
        let current = self.current.borrow();
        current.client.clone().map(|client| Live { client, generation: current.generation })
    }

    /// The connection, as soon as there is one or it is known why not; waits at most so long.
    pub(crate) async fn first(&self, patience: Duration) -> Result<Live, Failure> {
        let mut current = self.current.clone();
        let known = current.wait_for(|current| current.generation > 0 || current.is_explained());
        let _ = timeout(patience, known).await;
        self.live()
    }

    /// Waits until there is a connection.
    pub(crate) async fn connected(&self) {
        let mut current = self.current.clone();
        if current.wait_for(|current| current.client.is_ok()).await.is_err() {
            // The keeper ended with its runtime, and so will this.
            std::future::pending::<()>().await;
        }
    }

    /// Gives up a connection that is good for nothing: it is cut and built again.
    pub(crate) fn abandon(&self, generation: u64) {
        self.abandoned.send_if_modified(|last| {
            let newer = generation > *last;
            *last = generation.max(*last);
            newer
        });
    }

    /// Ends the connection in good order, and its keeping.
    pub(crate) async fn end(&self) {
        if let Ok(live) = self.live() {
            let _ = timeout(FAREWELL, live.client.quit()).await;
        }
        self.abandoned.send_replace(NO_MORE);
    }

    /// Gives up the present connection if this failure is its end.
    pub(crate) fn give_up_after(&self, failure: &Failure) {
        let current = self.current.borrow().clone();
        if failure.trouble == Trouble::Moved {
            self.place.moved(&failure.text);
            if current.node.is_none_or(|node| node == self.place.node()) {
                return;
            }
        }
        if failure.ends_connection() && current.client.is_ok() {
            self.abandon(current.generation);
        }
    }

    /// Asks Redis something that it answers at once. Fails at once when there is no connection. A connection that
    /// does not answer is given up, and an answer that is late is noted.
    pub(crate) async fn ask<T, F>(&self, question: impl FnOnce(Client) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, fred::error::Error>>,
    {
        let Live { client, generation } = self.live()?;
        let begin = Instant::now();
        let answer = question(client).await.map_err(Failure::from);
        if begin.elapsed() > self.suspicious {
            self.counters.suspect();
        }
        match &answer {
            Err(failure) if failure.trouble == Trouble::Moved => self.give_up_after(failure),
            Err(failure) if failure.ends_connection() => self.abandon(generation),
            _ => {}
        }
        answer
    }
}

impl Current {
    /// Whether an attempt to connect has failed.
    fn is_explained(&self) -> bool {
        self.client.as_ref().is_err_and(|failure| !failure.text.ends_with("yet"))
    }
}

struct Keeper {
    url: RedisUrl,
    place: Place,
    timing: Timing,
    role: Role,
    publish: watch::Sender<Current>,
    given_up: watch::Receiver<u64>,
    counters: Arc<Counters>,
}

impl Keeper {
    /// Until the end is asked for, or with its runtime.
    async fn run(mut self) {
        let (mut generation, mut failures, mut said) = (0, 0, None);
        while *self.given_up.borrow() != NO_MORE {
            let node = self.place.node();
            let opened = match self.open(&node).await {
                Ok((client, task)) if failures > 0 => self.prove(client, task).await,
                opened => opened,
            };
            let failure = match opened {
                Ok((client, task)) => {
                    generation += 1;
                    if generation > 1 {
                        // Whatever was idle meanwhile may only look abandoned.
                        self.counters.suspect();
                    }
                    let current = Current { generation, client: Ok(client.clone()), node: Some(node.clone()) };
                    self.publish.send_replace(current);
                    let opened = Instant::now();
                    let (cause, failure) = self.watch(generation, client, task).await;
                    if cause == ReconnectCause::Abandoned || opened.elapsed() >= BRIEF {
                        (failures, said) = (0, None);
                    }
                    failure
                }
                Err(failure) => {
                    self.place.unreachable(&node);
                    failure
                }
            };
            if *self.given_up.borrow() == NO_MORE {
                return;
            }
            // In other words it is no news.
            if said.replace(failure.trouble) != Some(failure.trouble) {
                match failure.trouble {
                    Trouble::Refused => {
                        tracing::error!(redis = %node, role = ?self.role, error = failure.text, "redis refused us");
                    }
                    _ => tracing::warn!(redis = %node, role = ?self.role, error = failure.text, "redis is away"),
                }
            }
            let slow = failure.trouble == Trouble::Refused;
            failures = if slow { 10 } else { failures + 1 };
            self.publish.send_replace(Current { generation, client: Err(failure), node: None });
            let longest = self.timing.pause(failures);
            let pause = if slow { chance::around(longest) } else { chance::up_to(longest) };
            tokio::select! {
                () = sleep(pause) => {}
                _ = self.given_up.wait_for(|last| *last == NO_MORE) => {}
                () = self.counters.answers(), if !slow => {}
            }
        }
    }

    /// After a failure: that somebody accepts is no proof yet. When Redis answers, the others of this subscription need
    /// not wait out their pauses.
    async fn prove(&self, client: Client, mut task: ConnectHandle) -> Result<(Client, ConnectHandle), Failure> {
        let mute = |how| Err(Failure::new(Trouble::Connection, format!("redis accepted the connection and {how}")));
        let answer = tokio::select! {
            answer = timeout(self.timing.command(), client.ping::<Value>(None)) => match answer {
                Ok(answer) => answer.map_err(Failure::from),
                Err(_) => mute("answered nothing"),
            },
            // Of a connection that is closed before the question a client hears nothing.
            _ = &mut task => mute("hung up"),
        };
        let failure = match answer {
            Ok(_) => {
                self.counters.tell_that_it_answers();
                return Ok((client, task));
            }
            Err(failure) => failure,
        };
        if !failure.ends_connection() {
            return Ok((client, task));
        }
        task.abort();
        Err(failure)
    }

    async fn open(&self, node: &Node) -> Result<(Client, ConnectHandle), Failure> {
        let patience = self.timing.command();
        let mut config = self.url.to_config(node)?;
        if self.role == Role::Reader {
            config.blocking = Blocking::Error;
        }
        let mut builder = Builder::from_config(config);
        builder.with_connection_config(|connection| {
            connection.connection_timeout = patience;
            connection.internal_command_timeout = patience;
            connection.max_command_attempts = 1;
            connection.max_command_buffer_len = MAX_QUEUED;
            // These are states of Redis, not of the connection.
            connection.reconnect_errors = Vec::new();
            let keepalive =
                TcpKeepalive::new().with_time(Duration::from_secs(15)).with_interval(Duration::from_secs(5));
            connection.tcp = TcpConfig {
                nodelay: Some(true),
                keepalive: Some(keepalive),
                #[cfg(target_os = "linux")]
                user_timeout: Some(Duration::from_secs(20)),
                ..TcpConfig::default()
            };
        });
        if self.role != Role::Reader {
            builder.with_performance_config(|performance| performance.default_command_timeout = patience);
        }
        let client = builder.build()?;
        // Connecting, TLS, AUTH and SELECT have limits of their own; this is for a port that accepts and is mute.
        let Ok(task) = timeout(patience * 3, client.init()).await else {
            return Err(Failure::new(Trouble::Connection, "redis accepted the connection and said nothing"));
        };
        Ok((client, task?))
    }

    /// Until the connection is lost or given up.
    async fn watch(&mut self, generation: u64, client: Client, mut task: ConnectHandle) -> (ReconnectCause, Failure) {
        let cause = tokio::select! {
            _ = &mut task => ReconnectCause::Lost,
            // An error means that nobody is left who could use the connection.
            _ = self.given_up.wait_for(|last| *last >= generation) => ReconnectCause::Abandoned,
        };
        // Whoever asks from now on is refused at once; whoever waits for an answer is told by the abort.
        self.publish.send_replace(Current {
            generation,
            client: Err(Failure::new(Trouble::Connection, format!("the connection to {} was {cause}", self.url))),
            node: None,
        });
        task.abort();
        drop(client);
        self.counters.reconnect(cause);
        (cause, Failure::new(Trouble::Connection, format!("the connection to {} was {cause}", self.url)))
    }
}

/// Redis's name for the connection, by which another one can wake it.
pub(crate) fn connection_id(client: &Client) -> Option<i64> {
    client.connection_ids().into_values().next()
}

/// A command that fred has no words for, or awkward ones. Its first argument is the key.
pub(crate) async fn command<A>(client: &Client, name: &'static str, args: Vec<A>) -> Result<Value, fred::error::Error>
where
    A: TryInto<Value> + Send,
    A::Error: Into<fred::error::Error> + Send,
{
    client.custom(CustomCommand::new_static(name, ClusterHash::FirstKey, false), args).await
}
