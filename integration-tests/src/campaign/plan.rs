//! Which faults, when and where: all of it follows from the seed.

use std::time::Duration;

use aiki_proof::history::Fault;
use clap::ValueEnum;
use serde::Serialize;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Kind {
    /// `kill -9` of a worker, which is replaced.
    WorkerKilled,
    /// SIGSTOP of a worker for two leases, then SIGCONT.
    WorkerFrozen,
    /// SIGTERM of a worker, which is replaced.
    WorkerStopped,
    /// Nothing passes between a worker and the server, for longer than the lease.
    ServerUnreachable,
    /// What a worker asks of the server is done, and it is not told.
    AnswersLost,
    /// Nothing passes between a worker and Redis; the connections stay.
    RedisUnreachable,
    /// What a worker asks of Redis is done, and it is not told.
    RedisAnswersLost,
    /// What callers ask of the server is done, and they are not told.
    CallersDeaf,
    /// `kill -9` of a server, which is started again.
    ServerKilled,
    /// SIGSTOP of a server for a while, then SIGCONT.
    ServerFrozen,
    /// `kill -9` of Redis, which comes back with what it had on disk.
    RedisKilled,
    /// `kill -9` of Redis, which comes back empty.
    RedisEmptied,
    /// SIGSTOP of Redis for two leases, then SIGCONT.
    RedisFrozen,
    /// FLUSHALL.
    Flushed,
    /// DEL of the streams.
    StreamsDeleted,
    /// XGROUP DESTROY of the groups.
    GroupsDestroyed,
    /// XGROUP SETID to the end: what was not delivered yet never is.
    GroupsAdvanced,
    /// Every entry is added up to five times more.
    Duplicated,
    /// Entries that nobody can read.
    Malformed,
    /// Every commit of a server to its SQLite file takes half a second longer for a while.
    FsyncSlow,
    /// Nothing is left of the disk of the database for a while. Only with `--small-disk`.
    DiskFull,
    /// Every fsync of a server takes half a second longer for a while. Only with `--slow-disk`.
    DiskSlow,
    /// `kill -9` of a worker, which is replaced by one whose clock is an hour off. Only with `--clocks`.
    WorkerClockOff,
    /// SIGTERM of a worker, and once more while it ends; it is replaced. Only by name.
    WorkerStoppedTwice,
    /// SIGTERM of a worker that has no Redis; it is replaced. Only by name.
    WorkerStoppedWithoutRedis,
    /// FLUSHALL every 3 s for a minute. Only by name.
    FlushStorm,
    /// All lines are slow, and connections are reset, for 10 to 20 s. Only by name.
    LineSlow,
    /// Postgres crashes (`stop -m immediate`) and is started again after 10 s. Only by name.
    PostgresStopped,
    /// A foreign process has the SQLite file locked for 10 s. Only by name.
    DatabaseLocked,
    /// A handler aborts its worker's process, which is replaced. Only by name.
    WorkerAborted,
    /// A handler overflows its stack, which aborts the process; it is replaced. Only by name.
    WorkerOverflowed,
    /// A worker with much memory is killed by SIGKILL while a handler runs; it is replaced. Only by name.
    WorkerOutOfMemory,
    /// The handler of one run aborts each worker that begins it, until the run is parked. Only by name.
    RunPoisoned,
}

/// What only one fault at a time may trouble: two would hide each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// One of the workers, with its lines.
    Worker(usize),
    /// One of the servers.
    Server(usize),
    /// Redis.
    Redis,
    /// The line of the callers.
    Callers,
    /// The database.
    Database,
    /// All workers and their lines, and that of the callers.
    Everybody,
}

impl Kind {
    /// All kinds that need nothing but the processes. Over Postgres without those that trouble a SQLite file.
    pub const ALL: [Kind; 20] = [
        Kind::WorkerKilled,
        Kind::WorkerFrozen,
        Kind::WorkerStopped,
        Kind::ServerUnreachable,
        Kind::AnswersLost,
        Kind::RedisUnreachable,
        Kind::RedisAnswersLost,
        Kind::CallersDeaf,
        Kind::ServerKilled,
        Kind::ServerFrozen,
        Kind::RedisKilled,
        Kind::RedisEmptied,
        Kind::RedisFrozen,
        Kind::Flushed,
        Kind::StreamsDeleted,
        Kind::GroupsDestroyed,
        Kind::GroupsAdvanced,
        Kind::Duplicated,
        Kind::Malformed,
        Kind::FsyncSlow,
    ];

    /// Its name in figures.
    pub fn name(self) -> String {
        serde_json::to_value(self).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
    }

    /// How often it comes up beside its first time, against the others.
    fn weight(self) -> usize {
        match self {
            Kind::WorkerKilled => 6,
            Kind::WorkerStopped | Kind::WorkerFrozen | Kind::ServerKilled => 3,
            Kind::AnswersLost | Kind::ServerUnreachable => 2,
            _ => 1,
        }
    }

    /// Whether a worker's process ends at once, without a word.
    pub fn kills(self) -> bool {
        matches!(self, Kind::WorkerKilled | Kind::WorkerAborted | Kind::WorkerOverflowed | Kind::WorkerOutOfMemory)
    }

    /// Whether it troubles the disk of a SQLite file.
    pub fn troubles_disk(self) -> bool {
        matches!(self, Kind::FsyncSlow | Kind::DiskFull | Kind::DiskSlow | Kind::DatabaseLocked)
    }

    /// What it troubles.
    fn place(self, target: usize, workers: usize, servers: usize) -> Place {
        match self {
            Kind::WorkerKilled
            | Kind::WorkerFrozen
            | Kind::WorkerStopped
            | Kind::ServerUnreachable
            | Kind::AnswersLost
            | Kind::RedisUnreachable
            | Kind::RedisAnswersLost
            | Kind::WorkerClockOff
            | Kind::WorkerStoppedTwice
            | Kind::WorkerAborted
            | Kind::WorkerOverflowed
            | Kind::WorkerOutOfMemory
            | Kind::WorkerStoppedWithoutRedis => Place::Worker(target % workers.max(1)),
            Kind::ServerKilled
            | Kind::ServerFrozen
            | Kind::FsyncSlow
            | Kind::DiskFull
            | Kind::DiskSlow
            | Kind::DatabaseLocked => Place::Server(target % servers.max(1)),
            Kind::CallersDeaf => Place::Callers,
            Kind::PostgresStopped => Place::Database,
            Kind::LineSlow | Kind::RunPoisoned => Place::Everybody,
            _ => Place::Redis,
        }
    }

    /// What the checker calls it. What happens to Redis or on the way to it explains no repeated attempt.
    pub fn judged_as(self) -> Option<Fault> {
        match self {
            kind if kind.kills() => Some(Fault::WorkerKilled),
            Kind::LineSlow => Some(Fault::RequestLost),
            Kind::WorkerFrozen => Some(Fault::WorkerPaused),
            Kind::ServerUnreachable => Some(Fault::RequestLost),
            Kind::AnswersLost => Some(Fault::ReplyLost),
            // With a full or locked disk nothing is stored for anybody, as while a server is away: claims cannot be prolonged and end.
            Kind::ServerKilled | Kind::ServerFrozen | Kind::DiskFull | Kind::DatabaseLocked | Kind::PostgresStopped => {
                Some(Fault::ServerRestarted)
            }
            Kind::RedisKilled
            | Kind::RedisFrozen
            | Kind::RedisUnreachable
            | Kind::RedisAnswersLost
            | Kind::WorkerStoppedWithoutRedis => Some(Fault::TransportDown),
            Kind::RedisEmptied | Kind::Flushed | Kind::FlushStorm | Kind::StreamsDeleted | Kind::GroupsDestroyed => {
                Some(Fault::TransportWiped)
            }
            Kind::GroupsAdvanced => Some(Fault::AnnouncementLost),
            Kind::Duplicated => Some(Fault::DeliveryDuplicated),
            // The death before it is noted as such. The clock itself explains nothing, not even a wait of a wrong length.
            Kind::WorkerClockOff => None,
            // A request may go on for longer than its asker waits.
            Kind::FsyncSlow | Kind::DiskSlow => Some(Fault::ReplyLost),
            // The deaths of a poisoned run's workers are noted as such.
            _ => None,
        }
    }
}

/// A fault to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// When, from the beginning of the load. It waits while its place is troubled already.
    pub at: Duration,
    /// What.
    pub kind: Kind,
    /// Where.
    pub place: Place,
    /// A number for whatever else has to be decided.
    pub chance: u64,
}

/// As many faults, over this time. Every one of these kinds comes up once when there are enough of them.
pub fn plan(seed: u64, faults: usize, workers: usize, servers: usize, window: Duration, of: &[Kind]) -> Vec<Planned> {
    let mut chance = fastrand::Rng::with_seed(seed);
    let mut first: Vec<Kind> = of.to_vec();
    let heavy: Vec<Kind> = first.iter().flat_map(|kind| std::iter::repeat_n(*kind, kind.weight())).collect();
    chance.shuffle(&mut first);
    let mut kinds: Vec<Kind> = first.into_iter().take(faults).collect();
    while kinds.len() < faults {
        kinds.push(heavy[chance.usize(..heavy.len())]);
    }
    chance.shuffle(&mut kinds);
    let slice = window / u32::try_from(faults.max(1)).unwrap_or(u32::MAX);
    let planned = kinds.into_iter().zip(0_u32..).map(|(kind, number)| {
        let at = slice * number + slice.mul_f64(chance.f64());
        let place = kind.place(chance.usize(..1_000), workers, servers);
        Planned { at, kind, place, chance: chance.u64(..) }
    });
    planned.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_always_the_same_plan_and_another_seed_another_one() {
        let window = Duration::from_secs(60);
        let one = plan(7, 40, 3, 1, window, &Kind::ALL);
        assert_eq!(one, plan(7, 40, 3, 1, window, &Kind::ALL));
        assert_ne!(one, plan(8, 40, 3, 1, window, &Kind::ALL));
    }

    #[test]
    fn forty_faults_have_every_kind_in_every_place_within_the_time() {
        for seed in 0..50 {
            let planned = plan(seed, 40, 3, 1, Duration::from_secs(60), &Kind::ALL);
            assert_eq!(planned.len(), 40);
            for kind in Kind::ALL {
                assert!(planned.iter().any(|fault| fault.kind == kind), "{kind:?} of seed {seed}");
            }
            assert!(planned.windows(2).all(|pair| pair[0].at <= pair[1].at));
            assert!(planned.iter().all(|fault| fault.at <= Duration::from_secs(60)));
            assert!(planned.iter().all(|fault| !matches!(fault.place, Place::Worker(3..) | Place::Server(1..))));
        }
    }

    #[test]
    fn nothing_is_planned_for_a_campaign_without_faults() {
        assert_eq!(plan(1, 0, 3, 1, Duration::ZERO, &Kind::ALL), []);
    }
}
