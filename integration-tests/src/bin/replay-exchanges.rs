//! Replays recorded exchanges of the HTTP contract against a live server.
//!
//! ```text
//! replay-exchanges DIR --url http://127.0.0.1:9090 [--api-key K] [--only NAME] [--jobs N]
//! ```
//!
//! Prints one line per scenario. Exit code 0: every replayed scenario was as recorded, but for the
//! known differences; 1: something differed; 2: nothing could be replayed. The server may have been
//! used before. Its claims of crashed workers expire after 90 s, so a whole replay takes about two
//! minutes.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Parser;
use integration_tests::exchange::differences::Differences;
use integration_tests::exchange::live::Live;
use integration_tests::exchange::player::Patience;
use integration_tests::exchange::recording::Recording;
use integration_tests::exchange::report::Outcome;
use integration_tests::exchange::{Options, replay};

/// Replays recorded exchanges of the HTTP contract against a live server.
#[derive(Debug, Parser)]
struct Arguments {
    /// Directory of the recordings (*.json).
    directory: PathBuf,
    /// The server, without a path.
    #[arg(long)]
    url: String,
    /// Stands for the key with which scenarios were recorded; without it those are skipped.
    #[arg(long)]
    api_key: Option<String>,
    /// Only scenarios whose name begins with this; may be given more than once.
    #[arg(long)]
    only: Vec<String>,
    /// Scenarios at a time; all at once when absent.
    #[arg(long)]
    jobs: Option<usize>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::from(2)
        }
    }
}

async fn run(arguments: Arguments) -> Result<bool, String> {
    let (mut recordings, mut unreadable) = (Vec::new(), 0);
    for recording in Recording::load_each(&arguments.directory)? {
        match recording {
            Ok(recording) => recordings.push(recording),
            Err(why) => {
                println!("UNREAD   {why}");
                unreadable += 1;
            }
        }
    }
    if !arguments.only.is_empty() {
        recordings.retain(|found| arguments.only.iter().any(|only| found.scenario.starts_with(only.as_str())));
    }
    if recordings.is_empty() {
        return Err("no recording has a name that begins so: look at --only".to_owned());
    }
    let live = Live::new(&arguments.url, arguments.api_key)?;
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let nonce = format!("r{:x}", since.as_millis());
    let options = Options { jobs: arguments.jobs.unwrap_or(recordings.len()), patience: Patience::default(), nonce };
    let differences = Differences::of_the_contract()?;
    let reports = replay(&live, &recordings, &differences, &options, |report| println!("{report}")).await;
    let count = |of: fn(&Outcome) -> bool| reports.iter().filter(|report| of(&report.outcome)).count();
    let ok = count(|outcome| matches!(outcome, Outcome::Ok { .. }));
    let differ = count(|outcome| matches!(outcome, Outcome::Differs(_)));
    let skipped = count(|outcome| matches!(outcome, Outcome::Skipped(_)));
    let unread = if unreadable == 0 { String::new() } else { format!(", {unreadable} unreadable") };
    println!("{ok} ok, {differ} differ, {skipped} skipped{unread}");
    Ok(differ == 0 && unreadable == 0 && ok > 0)
}
