//! What a campaign can be told.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::bug::Bug;
use super::clock::Clock;
use super::disk::SlowSync;
use super::plan::Kind;

/// Where the server keeps its runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Database {
    /// A file.
    Sqlite,
    /// A Postgres of its own, started for the campaign.
    Postgres,
}

/// A campaign.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Runs
    #[arg(long, default_value_t = 1_000)]
    pub runs: u64,
    /// Tasks of each run
    #[arg(long, default_value_t = 5)]
    pub tasks: u64,
    /// How long each task takes, in milliseconds
    #[arg(long, default_value_t = 80)]
    pub task_ms: u64,
    /// Worker processes
    #[arg(long, default_value_t = 3)]
    pub workers: usize,
    /// Runs that a worker executes at a time
    #[arg(long, default_value_t = 8)]
    pub slots: usize,
    /// Faults
    #[arg(long, default_value_t = 40)]
    pub faults: usize,
    /// Over how many seconds starts and faults are spread [default: 1.5 for each fault]
    #[arg(long)]
    pub seconds: Option<u64>,
    /// Decides which faults come when and where [default: random, and told]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Only faults of these kinds, with commas between [default: all that need none of the following flags]
    #[arg(long, value_enum, value_delimiter = ',')]
    pub only: Vec<Kind>,
    /// Puts the SQLite file on a disk of 32 MB, mounted for the campaign, and adds the kind `disk_full`; needs root
    #[arg(long)]
    pub small_disk: bool,
    /// Adds the kind `disk_slow`; needs strace
    #[arg(long)]
    pub slow_disk: bool,
    /// Adds the kind `worker_clock_off`; needs faketime
    #[arg(long)]
    pub clocks: bool,
    /// Where the server keeps its runs
    #[arg(long, value_enum, default_value_t = Database::Sqlite)]
    pub database: Database,
    /// Servers; more than one needs Postgres
    #[arg(long, default_value_t = 1)]
    pub servers: usize,
    /// Writes all figures as JSON into this file
    #[arg(long)]
    pub report: Option<PathBuf>,
    /// Keeps notes and logs in this directory; without it they are kept only when something is wrong
    #[arg(long)]
    pub keep: Option<PathBuf>,
    /// What servers and workers log
    #[arg(long, default_value = "info")]
    pub log_level: String,
    /// A bug that the campaign has to find
    #[arg(long, value_enum, hide = true)]
    pub broken: Option<Bug>,
}

impl Options {
    /// What contradicts itself.
    ///
    /// # Errors
    /// One line that says what to do.
    pub fn check(&self) -> Result<(), String> {
        let wrong = match () {
            () if self.runs == 0 || self.tasks == 0 => "--runs and --tasks must be at least 1",
            () if self.workers == 0 || self.slots == 0 => "--workers and --slots must be at least 1",
            () if self.servers == 0 => "--servers must be at least 1",
            () if self.servers > 1 && self.database == Database::Sqlite => {
                "a SQLite file belongs to one server: give --database postgres, or --servers 1"
            }
            () if self.database != Database::Sqlite && self.kinds().iter().any(|kind| kind.troubles_disk()) => {
                "one of the kinds troubles the disk of a SQLite file: give --database sqlite, or leave it out"
            }
            () if self.database == Database::Sqlite && self.only.contains(&Kind::PostgresStopped) => {
                "postgres_stopped needs a Postgres: give --database postgres, or leave it out"
            }
            () if self.faults > 100_000 || self.runs > 10_000_000 => "at most 100000 faults and 10000000 runs",
            () => return self.has_what_it_needs(),
        };
        Err(wrong.to_owned())
    }

    fn has_what_it_needs(&self) -> Result<(), String> {
        let kinds = self.kinds();
        if kinds.contains(&Kind::DiskSlow) {
            SlowSync::available()?;
        }
        if kinds.contains(&Kind::WorkerClockOff) {
            Clock::available()?;
        }
        Ok(())
    }

    /// Which kinds of faults there are.
    pub fn kinds(&self) -> Vec<Kind> {
        let more =
            [(self.small_disk, Kind::DiskFull), (self.slow_disk, Kind::DiskSlow), (self.clocks, Kind::WorkerClockOff)];
        let by_name = [
            Kind::WorkerStoppedTwice,
            Kind::WorkerStoppedWithoutRedis,
            Kind::FlushStorm,
            Kind::LineSlow,
            Kind::PostgresStopped,
            Kind::DatabaseLocked,
            Kind::WorkerAborted,
            Kind::WorkerOverflowed,
            Kind::WorkerOutOfMemory,
            Kind::RunPoisoned,
        ];
        let more = more.into_iter().chain(by_name.map(|kind| (false, kind)));
        let fits = |kind: &Kind| self.database == Database::Sqlite || !kind.troubles_disk();
        let all = Kind::ALL.into_iter().filter(|kind| match self.only.is_empty() {
            true => fits(kind),
            false => self.only.contains(kind),
        });
        let named = |flag: bool, kind| flag || self.only.contains(&kind);
        all.chain(more.filter(|(flag, kind)| named(*flag, *kind)).map(|(_, kind)| kind)).collect()
    }

    /// Whether the SQLite file is on a small disk.
    pub fn on_small_disk(&self) -> bool {
        self.small_disk || self.only.contains(&Kind::DiskFull)
    }

    /// Over which time starts and faults are spread.
    pub fn window(&self) -> Duration {
        self.seconds.map_or_else(|| Duration::from_millis(1_500) * self.faults as u32, Duration::from_secs)
    }

    /// The command that repeats this campaign.
    pub fn again(&self, seed: u64) -> String {
        let Self { runs, tasks, task_ms, workers, slots, faults, servers, .. } = self;
        let database = match self.database {
            Database::Sqlite => "sqlite",
            Database::Postgres => "postgres",
        };
        let seconds = self.window().as_secs();
        let only: Vec<String> = self.only.iter().map(|kind| kind.name()).collect();
        let flags = [(self.small_disk, " --small-disk"), (self.slow_disk, " --slow-disk"), (self.clocks, " --clocks")];
        let flags: String = flags.into_iter().filter(|(given, _)| *given).map(|(_, flag)| flag).collect();
        let broken = self.broken.map(|bug| format!(" --broken {}", bug.name())).unwrap_or_default();
        let only = if only.is_empty() { String::new() } else { format!(" --only {}", only.join(",")) };
        format!(
            "cargo run -p integration-tests --bin campaign -- --seed {seed} --runs {runs} --tasks {tasks} --task-ms \
             {task_ms} --workers {workers} --slots {slots} --faults {faults} --seconds {seconds} --database {database} \
             --servers {servers}{flags}{only}{broken}"
        )
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    fn options(flags: &[&str]) -> Options {
        Cli::try_parse_from([&["campaign"], flags].concat()).unwrap().options
    }

    #[test]
    fn what_needs_a_mount_a_tracer_or_a_library_comes_only_when_it_is_asked_for() {
        assert_eq!(options(&[]).kinds(), Kind::ALL);
        assert!(!options(&[]).on_small_disk());
        let all = options(&["--small-disk", "--slow-disk", "--clocks"]);
        assert_eq!(all.kinds()[Kind::ALL.len()..], [Kind::DiskFull, Kind::DiskSlow, Kind::WorkerClockOff]);
        let only = options(&["--only", "disk_full,worker_stopped_twice"]);
        assert_eq!(only.kinds(), [Kind::DiskFull, Kind::WorkerStoppedTwice]);
        assert!(only.on_small_disk());
    }

    #[test]
    fn a_campaign_on_a_small_disk_is_repeated_on_a_small_disk() {
        let again = options(&["--small-disk", "--clocks", "--only", "flushed"]).again(7);
        assert!(again.ends_with("--servers 1 --small-disk --clocks --only flushed"), "{again}");
    }

    #[test]
    fn the_disk_of_postgres_is_not_meant() {
        let wrong = options(&["--database", "postgres", "--only", "disk_full"]).check().unwrap_err();
        assert!(wrong.contains("--database sqlite"), "{wrong}");
        assert_eq!(options(&["--database", "postgres"]).check(), Ok(()));
    }
}
