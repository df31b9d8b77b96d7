//! `aiki-server runs` and `aiki-server workers`: they ask a server that is running, over HTTP.

use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use aiki_client::{ClientConfig, HttpClient, Secret};
use aiki_core::listing::RunOrder;
use aiki_core::{Client, Clock, RunId, ServerError};
use aiki_runtime::SystemClock;

use super::exit::Failure;
use super::looking_args::{CancelFlags, ExportFlags, ListFlags, RunsCommand, ServerFlags, WorkersCommand};
use crate::looking::{self, Format, ListRuns, LookingError};

const HERE: &str = "http://127.0.0.1:9090";
/// A server that is not there for so long is told at once: somebody waits.
const RETRY_FOR: Duration = Duration::from_secs(2);

/// Lists, shows, cancels or exports runs.
pub(crate) fn runs(command: &RunsCommand) -> Result<(), Failure> {
    match command {
        RunsCommand::List(flags) => with(&flags.server, async |client, out| list(client, flags, out).await),
        RunsCommand::Show(flags) => with(&flags.server, async |client, out| {
            Ok(looking::show(client, flags.id, format(flags.json), SystemClock.now(), out).await?)
        }),
        RunsCommand::Cancel(flags) => with(&flags.server, async |client, out| cancel(client, flags, out).await),
        RunsCommand::Export(flags) => with(&flags.server, async |client, out| export(client, flags, out).await),
    }
}

/// Lists workers.
pub(crate) fn workers(command: &WorkersCommand) -> Result<(), Failure> {
    let WorkersCommand::List(flags) = command;
    with(&flags.server, async |client, out| {
        Ok(looking::list_workers(client, format(flags.json), SystemClock.now(), out).await?)
    })
}

type Stdout = BufWriter<io::StdoutLock<'static>>;

/// Why a command did not do what it was asked.
enum Ended {
    Looking(LookingError),
    Told(Failure),
}

impl<E: Into<LookingError>> From<E> for Ended {
    fn from(error: E) -> Self {
        Ended::Looking(error.into())
    }
}

/// Does something with the client of a server, and writes what it wrote.
fn with(flags: &ServerFlags, work: impl AsyncFnOnce(&Client, &mut Stdout) -> Result<(), Ended>) -> Result<(), Failure> {
    let (http, keyed) = connect(flags)?;
    let client = Client::new(http.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::broken(format!("no thread for the request: {error}")))?;
    let mut out = BufWriter::new(io::stdout().lock());
    let done = runtime.block_on(async {
        let done = work(&client, &mut out).await;
        http.close().await;
        done
    });
    let written = out.flush().map_err(LookingError::from);
    match done.and(written.map_err(Ended::from)) {
        Ok(()) => Ok(()),
        // Who closes the pipe has read enough.
        Err(Ended::Looking(LookingError::Write(error))) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(Ended::Looking(error)) => Err(told(error, keyed)),
        Err(Ended::Told(failure)) => Err(failure),
    }
}

/// The client, and whether it has a key.
fn connect(flags: &ServerFlags) -> Result<(HttpClient, bool), Failure> {
    let given = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let mut config = ClientConfig::new(flags.url.clone().or_else(|| given("AIKI_URL")).unwrap_or_else(|| HERE.into()));
    config.api_key = flags.api_key.clone().or_else(|| given("AIKI_API_KEY")).map(|key| Secret::new(key.trim()));
    config.ca_file = flags.ca_file.clone().or_else(|| given("AIKI_CA_FILE").map(Into::into));
    config.retry_for = RETRY_FOR;
    let keyed = config.api_key.is_some();
    let http = HttpClient::connect(config).map_err(|error| Failure::usage(format!("--url, --api-key: {error}")))?;
    Ok((http, keyed))
}

fn format(json: bool) -> Format {
    if json { Format::JsonLines } else { Format::Table }
}

/// What happened, and what to do about it.
fn told(error: LookingError, keyed: bool) -> Failure {
    match error {
        LookingError::Server(error @ ServerError::Unavailable(_)) => Failure::no_server(format!(
            "{error}; start one with `aiki-server`, or name another one with --url or AIKI_URL"
        )),
        LookingError::Server(error @ ServerError::Unauthorized(_)) if keyed => {
            Failure::refused(format!("{error}; see `aiki-server keys list` on the server's database"))
        }
        LookingError::Server(error @ ServerError::Unauthorized(_)) => Failure::refused(format!(
            "{error}; give a key with AIKI_API_KEY or --api-key; `aiki-server keys create` makes one"
        )),
        LookingError::Server(error @ ServerError::Forbidden(_)) => {
            Failure::refused(format!("{error}; give a key of another role with AIKI_API_KEY or --api-key"))
        }
        LookingError::Server(ServerError::RunNotFound(run)) => Failure::no_run(not_there(run)),
        error => Failure::broken(error),
    }
}

fn not_there(run: RunId) -> String {
    format!("there is no run {run} in the namespace that was asked: see `aiki-server runs list`")
}

async fn list(client: &Client, flags: &ListFlags, out: &mut Stdout) -> Result<(), Ended> {
    let now = SystemClock.now();
    let order = if flags.oldest_first { RunOrder::OldestFirst } else { RunOrder::NewestFirst };
    let limit = usize::try_from(flags.limit).unwrap_or(usize::MAX);
    let asked = ListRuns { filter: flags.filter(now), order, after: flags.after, limit };
    Ok(looking::list(client, asked, format(flags.json), now, out).await?)
}

/// One after the other: each run has an answer of its own.
async fn cancel(client: &Client, flags: &CancelFlags, out: &mut Stdout) -> Result<(), Ended> {
    let mut left = Vec::new();
    for run in &flags.ids {
        match client.server().cancel_run(*run, flags.explanation.clone()).await {
            Ok(()) => {
                writeln!(out, "{run}")?;
                // What is done is told, whatever comes next.
                out.flush()?;
            }
            Err(ServerError::RunNotFound(run)) => left.push(not_there(run)),
            Err(error @ (ServerError::IllegalTransition(_) | ServerError::RunEnded { .. })) => {
                left.push(format!("{run} was not cancelled: {error}"));
            }
            Err(error) => return Err(error.into()),
        }
    }
    if left.is_empty() { Ok(()) } else { Err(Ended::Told(Failure::no_run(left.join("; ")))) }
}

async fn export(client: &Client, flags: &ExportFlags, out: &mut Stdout) -> Result<(), Ended> {
    let Some(path) = &flags.output else {
        for run in &flags.ids {
            looking::export(client, *run, out).await?;
        }
        return Ok(());
    };
    // The file is touched when all of it is there.
    let mut text = Vec::new();
    for run in &flags.ids {
        looking::export(client, *run, &mut text).await?;
    }
    let written = write_private(path, &text);
    written.map_err(|error| Ended::Told(Failure::broken(format!("{} cannot be written: {error}", path.display()))))
}

fn write_private(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(text)
}
