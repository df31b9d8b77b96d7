//! The scenes of the fault matrix at their full size. Each prints what it measured, and fails where a promise is broken.

use std::error::Error;
use std::time::Duration;

use clap::{Parser, Subcommand};
use integration_tests::matrix::crowd::{Crowd, crowd};
use integration_tests::matrix::outage::outage;
use integration_tests::matrix::restart::restart;
use integration_tests::matrix::storm::storm;
use integration_tests::rig::Programs;

/// The scenes of the fault matrix at their full size.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    scene: Scene,
}

#[derive(Debug, Subcommand)]
enum Scene {
    /// More than there is memory for: server and workers have little (M36)
    Crowd {
        /// Runs that are queued before anybody works
        #[arg(long, default_value_t = 10_000)]
        queued: u64,
        /// Runs with a result of 1 MB
        #[arg(long, default_value_t = 1_000)]
        results: u64,
        /// Addresses that each process may have, in MiB
        #[arg(long, default_value_t = 512)]
        limit_mb: u64,
        /// Runs that each of the two workers has at a time
        #[arg(long, default_value_t = 16)]
        slots: u64,
    },
    /// Workers that start at once (M40)
    Storm {
        /// How many
        #[arg(long, default_value_t = 200)]
        workers: usize,
    },
    /// A Redis that is away for long (M11)
    Outage {
        /// For how many seconds
        #[arg(long, default_value_t = 180)]
        seconds: u64,
    },
    /// A server that is killed with many runs in its file (M18)
    Restart {
        /// How many
        #[arg(long, default_value_t = 100_000)]
        runs: u64,
    },
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let programs = Programs::beside_this_one()?;
    match Cli::parse().scene {
        Scene::Crowd { queued, results, limit_mb, slots } => {
            let size = Crowd { queued, results, bytes: 999_000, limit_mb, slots };
            println!("{}", crowd(programs, size).await);
        }
        Scene::Storm { workers } => println!("{}", storm(programs, workers).await),
        Scene::Outage { seconds } => println!("{}", outage(programs, Duration::from_secs(seconds)).await),
        Scene::Restart { runs } => println!("{}", restart(programs, runs).await),
    }
    Ok(())
}
