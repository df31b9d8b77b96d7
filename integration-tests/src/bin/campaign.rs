//! The fault campaign: Redis, servers and workers as processes, a load, and faults that a seed chooses.
//!
//! Ends with 0 when nothing is wrong, with 1 when something is, with 3 when the campaign itself could not go on.

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use integration_tests::campaign::conduct;
use integration_tests::campaign::foreign::{LockArguments, lock};
use integration_tests::campaign::options::Options;
use integration_tests::campaign::worker::{WorkerArguments, work};

/// The fault campaign.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A worker of a campaign; the campaign starts them
    #[command(hide = true)]
    Worker(WorkerArguments),
    /// Has a database locked for as long as it is wanted; the campaign starts it
    #[command(hide = true)]
    Lock(LockArguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Some(Command::Worker(arguments)) => work(arguments).await.map(|()| true),
        Some(Command::Lock(arguments)) => lock(&arguments).map(|()| true).map_err(|error| error.to_string().into()),
        None => tokio::select! {
            done = campaign(cli.options) => done,
            // Here and not by the system: what was mounted is unmounted.
            () = aiki::shutdown_signal() => Err("the campaign was told to end".into()),
        },
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(3)
        }
    }
}

/// Whether nothing is wrong.
async fn campaign(options: Options) -> Result<bool, Box<dyn Error>> {
    options.check()?;
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..));
    println!("seed {seed}; again: {}", options.again(seed));
    let scratch = tempfile::tempdir()?;
    let folder = options.keep.clone().unwrap_or_else(|| scratch.path().to_owned());
    std::fs::create_dir_all(&folder)?;
    if std::fs::read_dir(&folder)?.next().is_some() {
        return Err(format!("--keep: {} is not empty, name another directory", folder.display()).into());
    }
    let conducted = conduct(&options, seed, &folder).await;
    let fine = match &conducted {
        Ok((report, wrong)) => {
            println!("{report}");
            if let Some(file) = &options.report {
                std::fs::write(file, serde_json::to_string_pretty(report)?)?;
            }
            wrong.iter().for_each(|one| println!("VIOLATION {one}"));
            wrong.is_empty()
        }
        Err(error) => {
            println!("the campaign could not go on: {error}");
            false
        }
    };
    if !fine {
        let kept = if options.keep.is_some() { folder } else { scratch.keep() };
        println!("notes and logs are in {}", kept.display());
        println!("seed {seed}; again: {}", options.again(seed));
    }
    match conducted {
        Ok(_) => Ok(fine),
        Err(error) => Err(error.to_string().into()),
    }
}
