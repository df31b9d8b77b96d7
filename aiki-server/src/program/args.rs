//! The command line.

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};

use super::exit;
use super::looking_args::{RunsCommand, WorkersCommand};

const AFTER: &str = "\
Every flag is also an environment variable and a key of the file given with --config:
--drain-time 10s, AIKI_DRAIN_TIME=10s and drain_time = \"10s\" mean the same. A flag wins over a
variable, a variable over the file, the file over the default.

Examples:
  aiki-server                                      runs in ./aiki.db, on 127.0.0.1:9090
  aiki-server --database memory --log-level debug  for trying things out
  aiki-server keys create --namespace shop --role worker
  aiki-server runs list --status failed            asks the server at 127.0.0.1:9090
  aiki-server --listen 0.0.0.0:9090 --database postgres://aiki:secret@db/aiki --redis rediss://cache
";

/// Durable workflows: the orchestrator.
#[derive(Debug, Parser)]
#[command(name = "aiki-server", version, about, after_help = format!("{AFTER}\n{}", exit::TABLE))]
#[command(args_conflicts_with_subcommands = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) serve: ServeFlags,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve; the same as no command at all
    #[command(after_help = format!("{AFTER}\n{}", exit::TABLE))]
    Serve(Box<ServeFlags>),
    /// Make, list and revoke API keys, also while a server is running
    Keys {
        #[command(subcommand)]
        command: KeysCommand,
    },
    /// List, show, cancel and export runs of a server that is running
    Runs {
        #[command(subcommand)]
        command: RunsCommand,
    },
    /// List the workers of a server that is running
    Workers {
        #[command(subcommand)]
        command: WorkersCommand,
    },
    /// Ask the server of this configuration how it is; for containers
    Healthcheck(HealthcheckFlags),
}

/// Where the configuration comes from.
#[derive(Debug, Default, Args)]
pub(crate) struct DatabaseFlags {
    /// TOML file with the settings below, as drain_time = "10s" [env: AIKI_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Where runs and keys are: memory, sqlite://PATH or postgres://USER:PASSWORD@HOST/NAME [env:
    /// AIKI_DATABASE] [default: the file aiki.db in $STATE_DIRECTORY if systemd gives one, else in the
    /// working directory]
    #[arg(long, value_name = "URL")]
    pub(crate) database: Option<String>,
}

/// How to serve.
#[derive(Debug, Default, Args)]
pub(crate) struct ServeFlags {
    #[command(flatten)]
    pub(crate) place: DatabaseFlags,
    /// Address to listen on; without API keys only loopback [env: AIKI_LISTEN] [default: 127.0.0.1:9090]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) listen: Option<String>,
    /// Redis that ready runs are announced to: redis://[USER:PASSWORD@]HOST[:PORT][/DB], rediss:// for TLS.
    /// Without one, workers ask the server [env: AIKI_REDIS]
    #[arg(long, value_name = "URL")]
    pub(crate) redis: Option<String>,
    /// PEM file with the certificate authority of a rediss:// server, instead of the system's [env:
    /// AIKI_REDIS_CA_FILE]
    #[arg(long, value_name = "FILE")]
    pub(crate) redis_ca_file: Option<String>,
    /// Largest input, output or event [env: AIKI_PAYLOAD_LIMIT] [default: 1MB]
    #[arg(long, value_name = "SIZE")]
    pub(crate) payload_limit: Option<String>,
    /// Largest body of a request [env: AIKI_BODY_LIMIT] [default: 4MB]
    #[arg(long, value_name = "SIZE")]
    pub(crate) body_limit: Option<String>,
    /// Most entries of a run's history, beyond which the run fails [env: AIKI_HISTORY_LIMIT] [default: 50000]
    #[arg(long, value_name = "COUNT")]
    pub(crate) history_limit: Option<String>,
    /// How long ended runs are kept, such as 30d; with their history they are forgotten then [env:
    /// AIKI_RETENTION] [default: for ever]
    #[arg(long, value_name = "TIME")]
    pub(crate) retention: Option<String>,
    /// Most connections at the same time; further ones wait to be accepted [env: AIKI_MAX_CONNECTIONS]
    /// [default: 10000]
    #[arg(long, value_name = "COUNT")]
    pub(crate) max_connections: Option<String>,
    /// Origin whose pages may call from a browser; may be given several times, in the variable with commas
    /// [env: AIKI_CORS_ORIGIN] [default: http://localhost:9851]
    #[arg(long, value_name = "ORIGIN")]
    pub(crate) cors_origin: Vec<String>,
    /// Form of the log lines on stderr: text or json [env: AIKI_LOG_FORMAT] [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) log_format: Option<String>,
    /// What is logged: error, warn, info, debug, trace, also by module as warn,aiki_server=debug [env:
    /// AIKI_LOG_LEVEL] [default: info]
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
    /// How long a worker whose connection broke may take to come back before its runs are given to others; 0s: leases
    /// alone decide [env: AIKI_DISCONNECT_GRACE] [default: 400ms]
    #[arg(long, value_name = "TIME")]
    pub(crate) disconnect_grace: Option<String>,
    /// After SIGTERM or SIGINT, how long requests may take to end [env: AIKI_DRAIN_TIME] [default: 20s]
    #[arg(long, value_name = "TIME")]
    pub(crate) drain_time: Option<String>,
}

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Make a key and print it; this is the only time that it is shown
    Create(CreateKey),
    /// List the keys without their secrets
    List(DatabaseFlags),
    /// Take a key back; servers refuse it after five seconds at the latest
    Revoke(RevokeKey),
}

/// A new key.
#[derive(Debug, Args)]
pub(crate) struct CreateKey {
    #[command(flatten)]
    pub(crate) place: DatabaseFlags,
    /// The only namespace that the key opens
    #[arg(long)]
    pub(crate) namespace: String,
    /// client: start and read runs, send events, cancel; worker: also execute runs; admin: also operate
    #[arg(long, value_name = "client|worker|admin")]
    pub(crate) role: String,
    /// When the key ends: after a time such as 90d or 12h. Without it, it does not
    #[arg(long, value_name = "TIME")]
    pub(crate) expires: Option<String>,
    /// Write the key into a new file that only its owner can read, instead of printing it
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// A key to be revoked.
#[derive(Debug, Args)]
pub(crate) struct RevokeKey {
    #[command(flatten)]
    pub(crate) place: DatabaseFlags,
    /// The 8 hex digits behind aiki_
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

/// Whom to ask.
#[derive(Debug, Args)]
pub(crate) struct HealthcheckFlags {
    /// TOML file of the server [env: AIKI_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Address of the server [env: AIKI_LISTEN] [default: 127.0.0.1:9090]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) listen: Option<String>,
    /// Ask whether it is ready (/readyz) and not only alive (/healthz)
    #[arg(long)]
    pub(crate) ready: bool,
}

/// What is wrong, without usage and hints.
pub(crate) fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let commands = text.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
        let names: Vec<_> = commands.filter_map(|line| line.split_whitespace().next()).collect();
        return format!("say what to do: {} (see `aiki-server --help`)", names.join(", "));
    }
    let told = |line: &&str| !line.starts_with("Usage:") && !line.starts_with("For more information");
    let lines = text.lines().map(str::trim).take_while(told);
    let told: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
    let told = told.join(" ");
    let told = told.strip_prefix("error: ").unwrap_or(&told);
    format!("{told} (see `aiki-server --help`)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_mistyped_flag_is_one_line_with_a_hint() {
        let error = Cli::try_parse_from(["aiki-server", "--listn", "x"]).unwrap_err();
        let line = one_line(&error);
        assert!(!line.contains('\n') && line.contains("--listn") && line.contains("'--listen'"), "{line}");
    }

    #[test]
    fn serving_needs_no_command() {
        let cli = Cli::try_parse_from(["aiki-server", "--drain-time", "1s"]).unwrap();
        assert_eq!((cli.command.is_none(), cli.serve.drain_time.as_deref()), (true, Some("1s")));
        let cli = Cli::try_parse_from(["aiki-server", "serve", "--drain-time", "1s"]).unwrap();
        assert!(matches!(cli.command, Some(Command::Serve(flags)) if flags.drain_time.as_deref() == Some("1s")));
    }

    #[test]
    fn help_names_the_variable_of_every_setting() {
        let help = Cli::command().render_long_help().to_string();
        for name in crate::program::settings::NAMES {
            let (variable, flag) = (format!("AIKI_{}", name.to_uppercase()), format!("--{}", name.replace('_', "-")));
            assert!(help.contains(&variable) && help.contains(&flag), "{name}\n{help}");
        }
    }
}
