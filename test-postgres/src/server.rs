//! A Postgres process that belongs to one test.

use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::HOW_TO_GET_ONE;

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A Postgres on a free loopback port, with a directory of its own. It ends with this value.
#[derive(Debug)]
pub struct PostgresServer {
    port: u16,
    directory: TempDir,
    options: Vec<String>,
    process: Option<Child>,
}

/// The folder of the newest binaries.
pub(crate) fn binaries() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = versions.map(|version| version.path().join("bin")).filter(|bin| bin.join("initdb").exists());
    let version = |bin: &PathBuf| bin.parent().and_then(|path| path.file_name()?.to_str()?.parse::<u32>().ok());
    found.max_by_key(version).or_else(|| {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).find(|bin| bin.join("initdb").exists() && bin.join("postgres").exists())
    })
}

/// A program of Postgres. Postgres refuses to run as root: then it is the user `postgres`.
fn program(name: &str) -> Result<Command, String> {
    let program = binaries().ok_or("there are no binaries")?.join(name);
    let root = std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    let mut command = match root {
        false => Command::new(&program),
        true => {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(&program);
            command
        }
    };
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
    Ok(command)
}

/// A data directory inside of `folder`.
pub(crate) fn init(folder: &Path) -> Result<(), String> {
    let root = std::fs::metadata(folder).is_ok_and(|folder| folder.uid() == 0);
    if root {
        let changed = Command::new("chown").arg("postgres").arg(folder).status();
        if !changed.is_ok_and(|status| status.success()) {
            return Err("there is no user postgres".into());
        }
    }
    let mut initdb = program("initdb")?;
    initdb.args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "-D"]);
    let done = initdb.arg(folder.join("data")).stderr(Stdio::piped()).output().map_err(|error| error.to_string())?;
    match done.status.success() {
        true => Ok(()),
        false => Err(format!("initdb: {}", String::from_utf8_lossy(&done.stderr))),
    }
}

/// Starts the process over a data directory.
pub(crate) fn spawn(folder: &Path, port: u16, options: &[String]) -> Result<Child, String> {
    use std::os::unix::process::CommandExt;
    let log = std::fs::File::create(folder.join("log")).map_err(|error| error.to_string())?;
    let mut postgres = program("postgres")?;
    postgres.arg("-D").arg(folder.join("data")).arg("-k").arg(folder);
    postgres.args(["-h", "127.0.0.1", "-p", &port.to_string()]);
    for option in ["max_connections=300", "shared_buffers=64MB"].map(str::to_owned).iter().chain(options) {
        postgres.args(["-c", option]);
    }
    // In a group of its own: what is sent to the tests' group is not meant for it.
    postgres.stderr(log).process_group(0).spawn().map_err(|error| error.to_string())
}

pub(crate) fn free_port() -> Result<u16, String> {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
    free.map(|address| address.port()).map_err(|error| error.to_string())
}

pub(crate) fn url(port: u16) -> String {
    format!("postgres://postgres@127.0.0.1:{port}/postgres")
}

/// Waits until it answers questions.
pub(crate) async fn answers(port: u16) -> Result<(), String> {
    let url = url(port);
    let answers = async {
        while tokio_postgres::connect(&url, tokio_postgres::NoTls).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, answers).await.map_err(|_| format!("nothing answers at {url}"))
}

#[allow(clippy::expect_used, clippy::panic)]
impl PostgresServer {
    /// Starts one that writes durably, as it does by default.
    ///
    /// # Panics
    /// When there are no binaries.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts one with settings, such as `fsync=off`.
    ///
    /// # Panics
    /// When there are no binaries, or it does not answer.
    pub async fn start_with(options: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let failed = |why: String| -> ! { panic!("no Postgres of its own for this test ({why}): {HOW_TO_GET_ONE}") };
        let port = free_port().unwrap_or_else(|why| failed(why));
        init(directory.path()).unwrap_or_else(|why| failed(why));
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let mut server = Self { port, directory, options, process: None };
        server.restart().await;
        server
    }

    /// Starts the process again, on the same port and directory.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn restart(&mut self) {
        let process = spawn(self.directory.path(), self.port, &self.options);
        self.process = Some(process.expect("Postgres starts"));
        answers(self.port).await.expect("Postgres answers");
    }

    /// Where it is.
    pub fn url(&self) -> String {
        url(self.port)
    }

    /// Ends it as `pg_ctl stop -m immediate` does: without a word to anybody, as in a crash.
    ///
    /// # Panics
    /// When the process is already gone.
    pub fn crash(&mut self) {
        let mut process = self.process.take().expect("it runs");
        signal(process.id(), "-QUIT");
        process.wait().expect("it is gone");
    }

    /// Asks every connection for this password from now on.
    ///
    /// # Panics
    /// When it cannot be set.
    pub async fn require(&self, password: &str) {
        let client = crate::connect(&self.url(), "public").await;
        client.batch_execute(&format!("ALTER USER postgres PASSWORD '{password}'")).await.expect("it is set");
        let rules = self.directory.path().join("data/pg_hba.conf");
        std::fs::write(rules, "host all all 127.0.0.1/32 scram-sha-256\n").expect("rules");
        client.batch_execute("SELECT pg_reload_conf()").await.expect("it reads them");
        // It reads them in its own time.
        while tokio_postgres::connect(&self.url(), tokio_postgres::NoTls).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The process above its sessions.
    ///
    /// # Panics
    /// When it was crashed.
    pub fn id(&self) -> u32 {
        self.process.as_ref().expect("it runs").id()
    }

    /// The port on the loopback interface.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Sends a signal to one of its processes, such as `-STOP` to a session's.
    ///
    /// # Panics
    /// When it is gone.
    pub fn signal(&self, process: i32, name: &str) {
        signal(u32::try_from(process).expect("a process"), name);
    }
}

#[allow(clippy::expect_used)]
fn signal(process: u32, name: &str) {
    let status = Command::new("kill").args([name, &process.to_string()]).status().expect("kill exists");
    assert!(status.success(), "kill {name} failed");
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = Command::new("kill").args(["-QUIT", &process.id().to_string()]).status();
            let _ = process.wait();
        }
    }
}
