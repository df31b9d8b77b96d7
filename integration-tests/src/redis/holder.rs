//! A process that holds deliveries, to be killed and stopped.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// How long the process may take to say something.
const PATIENCE: Duration = Duration::from_secs(15);

/// The program `delivery-holder`. It is killed with this value.
#[derive(Debug)]
pub struct Holder {
    process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

#[allow(clippy::expect_used, clippy::panic)]
impl Holder {
    /// Starts the program at `path` as a worker of this name, and waits until it has subscribed.
    ///
    /// # Panics
    /// When it does not.
    pub async fn start(path: &str, url: &str, name: &str, lease: Duration, limit: usize) -> Self {
        let mut process = Command::new(path)
            .args([url, name, &lease.as_millis().to_string(), &limit.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program starts");
        let input = process.stdin.take().expect("its input");
        let output = BufReader::new(process.stdout.take().expect("its output")).lines();
        let mut holder = Self { process, input, output };
        holder.says("ready").await;
        holder
    }

    /// Waits until it says this, and answers with what else is in that line.
    ///
    /// # Panics
    /// When it never does.
    pub async fn says(&mut self, what: &str) -> String {
        let said = async {
            while let Some(line) = self.output.next_line().await.expect("its output is text") {
                if let Some(rest) = line.strip_prefix(what) {
                    return rest.trim().to_owned();
                }
            }
            panic!("the program ended before it said {what}");
        };
        tokio::time::timeout(PATIENCE, said).await.unwrap_or_else(|_| panic!("it never said {what}"))
    }

    /// Gives it a command.
    ///
    /// # Panics
    /// When it has ended.
    pub async fn tell(&mut self, command: &str) {
        self.input.write_all(format!("{command}\n").as_bytes()).await.expect("it listens");
    }

    /// `kill -9`.
    ///
    /// # Panics
    /// When it is already gone.
    pub async fn kill(&mut self) {
        self.process.kill().await.expect("it can be killed");
    }

    /// Freezes it.
    pub fn freeze(&self) {
        super::signal(self.process.id().unwrap_or_default(), "-STOP");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        super::signal(self.process.id().unwrap_or_default(), "-CONT");
    }
}
