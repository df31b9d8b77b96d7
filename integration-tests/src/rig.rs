//! A server process with its file and clients, and worker processes for it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aiki::ClientConfig;
use aiki::prelude::*;
use tempfile::TempDir;

use crate::chain::{self, Chain, Chains, Ledgers};
use crate::program::{self, Program};
use crate::worker_process::WorkerProcess;

/// How long the answer to a request of a client may take.
const REQUEST: Duration = Duration::from_secs(5);

/// The programs that are started.
#[derive(Clone, Debug)]
pub struct Programs {
    /// `server-program`.
    pub server: PathBuf,
    /// `remote-worker`.
    pub worker: PathBuf,
}

impl Programs {
    /// For tests, which know where theirs are.
    pub fn at(server: &str, worker: &str) -> Self {
        Self { server: server.into(), worker: worker.into() }
    }

    /// Those in the directory of the program that runs.
    ///
    /// # Errors
    /// When they are not there.
    pub fn beside_this_one() -> io::Result<Self> {
        let this = std::env::current_exe()?;
        let find = |name: &str| {
            let found = this.with_file_name(name);
            let missing =
                || io::Error::other(format!("{} is missing: cargo build -p integration-tests", found.display()));
            found.exists().then(|| found.clone()).ok_or_else(missing)
        };
        Ok(Self { server: find("server-program")?, worker: find("remote-worker")? })
    }
}

/// A server process, and what is needed to work with it.
#[derive(Debug)]
pub struct Rig {
    /// Where its file is, and the ledgers.
    pub directory: TempDir,
    /// The server.
    pub server: Program,
    /// A client of it.
    pub client: Client,
    /// The workflow `chain`.
    pub workflow: Chains,
    /// What workers note.
    pub ledgers: Ledgers,
    /// The port that workers are told: that of the server, unless it is changed.
    pub port: u16,
    programs: Programs,
    redis: Option<String>,
}

#[allow(clippy::expect_used)]
impl Rig {
    /// Starts a server over a file of SQLite. `before` are words before the command, such as `prlimit --as=1`.
    ///
    /// # Panics
    /// When it does not serve.
    pub async fn start(programs: Programs, redis: Option<String>, before: &[&str]) -> Self {
        Self::over(programs, redis, before, tempfile::tempdir().expect("a directory")).await
    }

    /// The same over the file in this directory.
    ///
    /// # Panics
    /// When it does not serve.
    pub async fn over(programs: Programs, redis: Option<String>, before: &[&str], directory: TempDir) -> Self {
        let ledgers = Ledgers::in_directory(directory.path()).expect("the ledgers");
        let server = serve(&programs, directory.path(), redis.as_deref(), before);
        let port = server.address().port();
        let client = connect(port).await;
        Self { directory, server, client, workflow: chain::define(None), ledgers, port, programs, redis }
    }

    /// Kills the server without warning and starts another one on the same file. Clients and workers know only the port
    /// of the first.
    ///
    /// # Panics
    /// When it does not serve.
    pub fn restart(&mut self) {
        self.server.signal("-KILL");
        self.server.ended();
        self.server = serve(&self.programs, self.directory.path(), self.redis.as_deref(), &[]);
        self.port = self.server.address().port();
    }

    /// A worker, with further arguments and with words before its command.
    ///
    /// # Panics
    /// When it does not connect.
    pub fn worker(&self, id: &str, more: &[&str], before: &[&str]) -> WorkerProcess {
        let (binary, arguments) = self.worker_command(id, more, before);
        WorkerProcess::start(&binary, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// The command of a worker: its program and its arguments.
    pub fn worker_command(&self, id: &str, more: &[&str], before: &[&str]) -> (String, Vec<String>) {
        let url = format!("http://127.0.0.1:{}", self.port);
        let ledger = self.directory.path().display().to_string();
        let mut words: Vec<String> = before.iter().map(|word| (*word).to_owned()).collect();
        words.push(self.programs.worker.display().to_string());
        words.extend(["--url", &url, "--id", id, "--ledger", &ledger].map(str::to_owned));
        if let Some(redis) = &self.redis {
            words.extend(["--redis".to_owned(), redis.clone()]);
        }
        words.extend(more.iter().map(|word| (*word).to_owned()));
        (words.remove(0), words)
    }

    /// Starts a run.
    ///
    /// # Panics
    /// When the server refuses it for long.
    pub async fn run(&self, chain: Chain) -> (RunHandle<u64, Failure>, Chain) {
        let start = self.workflow.start(&self.client, chain).reference_id(format!("run-{}", chain.number));
        (start.await.expect("the run starts"), chain)
    }

    /// Waits until these runs have completed with the right answer.
    ///
    /// # Panics
    /// When one does not within `patience`.
    pub async fn complete(&self, runs: &[(RunHandle<u64, Failure>, Chain)], patience: Duration) {
        let all = async {
            for (run, chain) in runs {
                assert_eq!(run.wait().await.expect("the run completes"), chain.expected());
            }
        };
        tokio::time::timeout(patience, all).await.expect("the runs end in good time");
    }

    /// The sum of all lines of this metric of the server that contain `label`.
    ///
    /// # Panics
    /// When the server does not answer.
    pub fn metric(&self, name: &str, label: &str) -> u64 {
        let text = self.server.get("/metrics").1;
        let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(label));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64
    }
}

fn serve(programs: &Programs, directory: &Path, redis: Option<&str>, before: &[&str]) -> Program {
    let database = format!("sqlite://{}", directory.join("aiki.db").display());
    let binary = programs.server.display().to_string();
    let mut words: Vec<&str> = before.to_vec();
    words.extend([&*binary, "--listen", "127.0.0.1:0", "--database", &database]);
    if let Some(redis) = redis {
        words.extend(["--redis", redis]);
    }
    Program::spawn(program::command(words[0], &words[1..]))
}

/// A client of the server at this port.
///
/// # Panics
/// When there cannot be one.
#[allow(clippy::expect_used)]
pub async fn connect(port: u16) -> Client {
    let mut config = ClientConfig::new(format!("127.0.0.1:{port}"));
    config.request_timeout = REQUEST;
    config.retry_for = REQUEST * 12;
    aiki::connect(config).await.expect("a client")
}
