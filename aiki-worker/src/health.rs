//! Whether a worker does its work, by proof.

use std::fmt;
use std::time::Duration;

use crate::status::WorkerPhase;

/// How a worker is doing at one moment.
///
/// A worker is *ready* when it is proven to consume: its loop goes round, and its subscriber (or its
/// backup) has answered a short while ago. A worker whose slots are all taken asks for nothing, and so it
/// need not prove that it could.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerHealth {
    /// Where it is in its life.
    pub phase: WorkerPhase,
    /// Whether intake is paused.
    pub paused: bool,
    /// Whether the server refuses to prolong claims: nothing new is taken then.
    pub refused: bool,
    /// Time since the transport, or while it is away the server, last answered a question for runs.
    pub since_consume: Option<Duration>,
    /// For how long it could have consumed and did not: like `since_consume`, but not counted while it wants
    /// nothing, since all slots are taken or intake is paused.
    pub starving: Option<Duration>,
    /// Time since its loop last went round. It does so at least once a second.
    pub since_tick: Option<Duration>,
    /// Whether runs are claimed straight from the server because the subscriber is away.
    pub on_backup: bool,
    /// How often that was so.
    pub backup_switches: u64,
    /// Deliveries that are held or not settled yet.
    pub held: usize,
    /// Time since the longest unconfirmed lease was confirmed. It grows to a third of the lease when all is
    /// well; handlers are stopped before it reaches the whole of it.
    pub oldest_lease: Option<Duration>,
    /// How long `starving` and `since_tick` may be.
    pub readiness_limit: Duration,
}

/// Why a worker is not ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unready {
    /// It is not at work.
    Phase(WorkerPhase),
    /// Its intake is paused.
    Paused,
    /// The server refuses to prolong its claims.
    Refused,
    /// Its loop has not gone round for so long: something blocks the runtime.
    Stuck(Duration),
    /// Nobody has answered its questions for runs for so long.
    Starving(Duration),
    /// Nobody has answered its questions for runs yet.
    NothingYet,
}

impl WorkerHealth {
    /// Whether the worker is proven to consume.
    pub fn is_ready(&self) -> bool {
        self.unready().is_none()
    }

    /// Why it is not ready; `None` when it is.
    pub fn unready(&self) -> Option<Unready> {
        let late = |since: Duration| since > self.readiness_limit;
        match (self.since_tick, self.starving) {
            _ if self.phase != WorkerPhase::Running => Some(Unready::Phase(self.phase)),
            (Some(since), _) if late(since) => Some(Unready::Stuck(since)),
            _ if self.paused => Some(Unready::Paused),
            _ if self.refused => Some(Unready::Refused),
            (_, Some(since)) if late(since) => Some(Unready::Starving(since)),
            (_, None) => Some(Unready::NothingYet),
            _ => None,
        }
    }
}

impl fmt::Display for Unready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unready::Phase(phase) => write!(f, "the worker is {}", format!("{phase:?}").to_lowercase()),
            Unready::Paused => f.write_str("the worker's intake is paused"),
            Unready::Refused => f.write_str("the server refuses to prolong the worker's claims"),
            Unready::Stuck(since) => {
                write!(f, "the worker's loop has not gone round for {since:?}: something blocks its runtime")
            }
            Unready::Starving(since) => write!(f, "no question for runs was answered for {since:?}"),
            Unready::NothingYet => f.write_str("no question for runs was answered yet"),
        }
    }
}
