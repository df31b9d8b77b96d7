//! The program `aiki-server`: what it does beside the library. Configuration, logs, signals, health, keys.
//! Here, and not in the binary, so that a binary of another name can be it as well.
//!
//! | file | what |
//! |---|---|
//! | `args.rs` | the command line |
//! | `settings.rs`, `every_setting.rs`, `origin.rs`, `units.rs` | configuration from flags, environment and file |
//! | `database.rs`, `secret.rs` | addresses, and how they are shown |
//! | `exit.rs` | why it ends, and with which code |
//! | `logs.rs` | where log lines go |
//! | `serve.rs` | starting, draining, stopping |
//! | `listen.rs` | connections |
//! | `operations.rs`, `checks.rs`, `measure.rs` | `/healthz`, `/readyz`, `/metrics` |
//! | `keys.rs`, `healthcheck.rs` | commands on the database and on the server of this machine |
//! | `looking.rs`, `looking_args.rs` | commands on runs and workers, over HTTP |

mod args;
mod checks;
mod database;
#[cfg(test)]
mod every_setting;
mod exit;
mod healthcheck;
mod keys;
mod listen;
mod logs;
mod looking;
mod looking_args;
mod measure;
mod operations;
mod origin;
mod secret;
mod serve;
mod settings;
mod signals;
mod units;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use args::{Cli, Command, KeysCommand};
use exit::Failure;

/// Runs the program with the arguments of the process, to its end. One line on stderr says why it could not.
pub fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("aiki-server: {failure}");
            ExitCode::from(failure.code())
        }
    }
}

/// Reads a configuration file's text, as the fuzz targets do.
#[doc(hidden)]
pub fn read_configuration(text: &str) -> Result<(), String> {
    settings::of_text(text).map(drop).map_err(|failure| failure.to_string())
}

fn run() -> Result<(), Failure> {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            // Who closes the pipe has read enough.
            let _ = error.print();
            return Ok(());
        }
        Err(error) => return Err(Failure::usage(args::one_line(&error))),
    };
    match cli.command {
        None => serve::run(&settings::load(&cli.serve)?),
        Some(Command::Serve(flags)) => serve::run(&settings::load(&flags)?),
        Some(Command::Keys { command }) => match command {
            KeysCommand::Create(create) => keys::create(&create),
            KeysCommand::List(list) => keys::list(&list),
            KeysCommand::Revoke(revoke) => keys::revoke(&revoke),
        },
        Some(Command::Runs { command }) => looking::runs(&command),
        Some(Command::Workers { command }) => looking::workers(&command),
        Some(Command::Healthcheck(check)) => healthcheck::run(&check),
    }
}
