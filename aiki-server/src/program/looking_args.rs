//! The command line of `runs` and `workers`.

use std::path::PathBuf;

use aiki_core::listing::{RunFilter, WorkflowFilter};
use aiki_core::name::Source;
use aiki_core::run::RunStatus;
use aiki_core::{Name, RunId, ScheduleId, Timestamp};
use clap::{Args, Subcommand};

use super::exit;
use super::units::Span;

/// Most runs that one list has.
const LONGEST_LIST: i64 = 100_000;

/// Which server is asked, and as whom.
#[derive(Debug, Args)]
pub(crate) struct ServerFlags {
    /// The server [env: AIKI_URL] [default: http://127.0.0.1:9090]
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// The key to present. Who lists processes sees flags: prefer the variable [env: AIKI_API_KEY]
    #[arg(long, value_name = "KEY")]
    pub(crate) api_key: Option<String>,
    /// PEM file with the certificate authority of an https:// server, instead of the system's [env: AIKI_CA_FILE]
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
}

/// What to do with runs.
#[derive(Debug, Subcommand)]
pub(crate) enum RunsCommand {
    /// List runs, the newest first
    #[command(after_help = exit::TABLE)]
    List(Box<ListFlags>),
    /// Show a run: its record, its tasks, and all that happened to it
    #[command(after_help = exit::TABLE)]
    Show(ShowFlags),
    /// Cancel runs; prints the ids of those that were
    #[command(after_help = exit::TABLE)]
    Cancel(CancelFlags),
    /// Write runs with their whole history, each as one line of JSON (docs/export.md)
    #[command(after_help = exit::TABLE)]
    Export(ExportFlags),
}

/// What to do with workers.
#[derive(Debug, Subcommand)]
pub(crate) enum WorkersCommand {
    /// List the workers that the server has heard of lately
    #[command(after_help = exit::TABLE)]
    List(WorkersFlags),
}

/// Which runs are listed.
#[derive(Debug, Args)]
pub(crate) struct ListFlags {
    #[command(flatten)]
    pub(crate) server: ServerFlags,
    /// Only in this status; several with commas, or the flag again
    #[arg(long, value_name = "STATUS", value_delimiter = ',', value_parser = status)]
    pub(crate) status: Vec<RunStatus>,
    /// Only of this workflow
    #[arg(long, value_name = "NAME")]
    pub(crate) workflow: Option<String>,
    /// Only of this version of the workflow
    #[arg(long, value_name = "VERSION", requires = "workflow")]
    pub(crate) version: Option<String>,
    /// Only with this reference id
    #[arg(long, value_name = "ID")]
    pub(crate) reference: Option<String>,
    /// Only started by this schedule
    #[arg(long, value_name = "ID")]
    pub(crate) schedule: Option<ScheduleId>,
    /// Only children of this run
    #[arg(long, value_name = "ID")]
    pub(crate) parent: Option<RunId>,
    /// Only created then or later: 2h or 7d ago, 2026-03-01 (in UTC), or 2026-03-01T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) since: Option<Moment>,
    /// Only created before then, likewise
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) until: Option<Moment>,
    /// At most so many
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=LONGEST_LIST))]
    pub(crate) limit: u32,
    /// Go on behind this run
    #[arg(long, value_name = "ID")]
    pub(crate) after: Option<RunId>,
    /// The oldest first
    #[arg(long)]
    pub(crate) oldest_first: bool,
    /// One JSON document per line, instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

impl ListFlags {
    /// Which runs are meant.
    pub(crate) fn filter(&self, now: Timestamp) -> RunFilter {
        let workflow = self.workflow.as_ref().map(|name| WorkflowFilter {
            source: Source::User,
            name: Name::new(name),
            version: self.version.as_ref().map(Name::new),
        });
        RunFilter {
            id: None,
            statuses: self.status.clone(),
            workflow,
            reference_id: self.reference.clone(),
            schedule: self.schedule,
            parent: self.parent,
            created_from: self.since.map(|moment| moment.at(now)),
            created_until: self.until.map(|moment| moment.at(now)),
        }
    }
}

/// Which run is shown.
#[derive(Debug, Args)]
pub(crate) struct ShowFlags {
    #[command(flatten)]
    pub(crate) server: ServerFlags,
    /// The run
    #[arg(value_name = "ID")]
    pub(crate) id: RunId,
    /// The export of the run, one line of JSON, instead of tables
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which runs are cancelled.
#[derive(Debug, Args)]
pub(crate) struct CancelFlags {
    #[command(flatten)]
    pub(crate) server: ServerFlags,
    /// The runs
    #[arg(value_name = "ID", required = true)]
    pub(crate) ids: Vec<RunId>,
    /// Why; it is kept with the run
    #[arg(long, value_name = "TEXT")]
    pub(crate) explanation: Option<String>,
}

/// Which runs are exported.
#[derive(Debug, Args)]
pub(crate) struct ExportFlags {
    #[command(flatten)]
    pub(crate) server: ServerFlags,
    /// The runs
    #[arg(value_name = "ID", required = true)]
    pub(crate) ids: Vec<RunId>,
    /// Write into this file instead of stdout. It is made for its owner alone, as inputs and outputs are in it;
    /// what was in it is gone
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// How workers are listed.
#[derive(Debug, Args)]
pub(crate) struct WorkersFlags {
    #[command(flatten)]
    pub(crate) server: ServerFlags,
    /// One JSON document per line, instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

fn status(text: &str) -> Result<RunStatus, String> {
    let known = RunStatus::ALL.iter().find(|status| status.as_str() == text);
    known.copied().ok_or_else(|| {
        let all: Vec<_> = RunStatus::ALL.iter().map(|status| status.as_str()).collect();
        format!("the statuses are {}", all.join(", "))
    })
}

/// A time as people give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// So long ago.
    Ago(Span),
    /// Then.
    At(Timestamp),
}

impl Moment {
    fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Moment::Ago(Span(ago)) => {
                let ago = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
                Timestamp::from_millis(now.as_millis().saturating_sub(ago))
            }
            Moment::At(time) => time,
        }
    }
}

fn moment(text: &str) -> Result<Moment, &'static str> {
    const WRONG: &str = "expected how long ago, such as 90m, 2h or 7d, or a time such as 2026-03-01 or \
                         2026-03-01T12:00:00Z";
    if let Ok(ago) = text.parse() {
        return Ok(Moment::Ago(ago));
    }
    // A time of day without a zone is no instant, though it has a date.
    let day = || {
        Some(text)
            .filter(|text| text.len() == "2026-03-01".len())?
            .parse::<jiff::civil::Date>()
            .ok()?
            .to_zoned(jiff::tz::TimeZone::UTC)
            .ok()
    };
    let time = text.parse::<jiff::Timestamp>().ok().or_else(|| Some(day()?.timestamp())).ok_or(WRONG)?;
    let millis = u64::try_from(time.as_millisecond()).map_err(|_| "there are no runs from before 1970")?;
    Ok(Moment::At(Timestamp::from_millis(millis)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_distances_days_or_instants() {
        let now = Timestamp::from_millis(1_772_323_200_000);
        let at = |text: &str| moment(text).map(|moment| moment.at(now).as_millis());
        assert_eq!(at("2h"), Ok(1_772_323_200_000 - 7_200_000));
        assert_eq!(at("2026-03-01"), Ok(1_772_323_200_000));
        assert_eq!(at("2026-03-01T01:00:00+01:00"), Ok(1_772_323_200_000));
        assert_eq!(at("99999d"), Ok(0), "a distance ends at the beginning of time");
    }

    #[test]
    fn a_time_that_is_none_is_not_guessed() {
        for wrong in ["", "yesterday", "7", "2026-03-01T12:00:00", "2026-13-01", "1969-12-31"] {
            assert!(moment(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_unknown_status_is_told_the_known_ones() {
        assert_eq!(status("awaiting_event"), Ok(RunStatus::AwaitingEvent));
        let told = status("done").unwrap_err();
        assert!(told.contains("completed") && told.contains("awaiting_child_workflow"), "{told}");
    }
}
