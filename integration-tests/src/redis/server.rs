//! A `redis-server` process that belongs to one test.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpStream;

/// What to do when there is no Redis.
pub(super) const HOW_TO_GET_ONE: &str = "install redis-server (6.2 or later) or set AIKI_TEST_REDIS_URL";

/// How long a server may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);

/// A `redis-server` on a free loopback port, with a directory of its own. It ends with this value.
#[derive(Debug)]
pub struct RedisServer {
    port: u16,
    directory: TempDir,
    options: Vec<String>,
    /// Words before the command.
    before: Vec<String>,
    process: Option<Child>,
}

#[allow(clippy::expect_used, clippy::panic)]
impl RedisServer {
    /// Starts one that keeps nothing on disk.
    ///
    /// # Panics
    /// When there is no `redis-server`.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts one with further options, such as `--appendonly yes`.
    ///
    /// # Panics
    /// When there is no `redis-server`, or it does not listen.
    pub async fn start_with(options: &[&str]) -> Self {
        Self::start_under(&[], options).await
    }

    /// The same with words before its command, such as `env NAME=VALUE`, which become it in the end.
    ///
    /// # Panics
    /// When there is no `redis-server`, or it does not listen.
    pub async fn start_under(before: &[&str], options: &[&str]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        let directory = tempfile::tempdir().expect("a directory");
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let (options, before) = (owned(options), owned(before));
        let mut server = Self { port, directory, options, before, process: None };
        server.restart().await;
        println!("Redis: redis-server of its own on port {port}");
        server
    }

    /// Starts the process again, on the same port and directory.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn restart(&mut self) {
        self.restart_with(&[]).await;
    }

    /// The same, with further options for this time.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn restart_with(&mut self, more: &[&str]) {
        let mut words = self.before.iter().map(String::as_str).chain(["redis-server"]);
        let process = Command::new(words.next().unwrap_or("redis-server"))
            .args(words)
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"])
            .arg(self.directory.path())
            .args(&self.options)
            .args(more)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("no redis-server for this test ({error}): {HOW_TO_GET_ONE}"));
        self.process = Some(process);
        let listens = async {
            while TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, listens).await.expect("redis-server listens");
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The port on the loopback interface.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// `kill -9`.
    ///
    /// # Panics
    /// When the process is already gone.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.kill().expect("it can be killed");
        process.wait().expect("it is gone");
    }

    /// Freezes the process.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets a frozen process go on.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        super::signal(self.process.as_ref().expect("it runs").id(), signal);
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // SIGKILL works on a frozen process as well.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
