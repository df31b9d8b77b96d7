//! A worker process that belongs to one test or benchmark.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};

use crate::program::eventually;

/// The program `remote-worker`. It is killed with this value, frozen or not.
#[derive(Debug)]
pub struct WorkerProcess {
    process: Child,
}

#[allow(clippy::expect_used)]
impl WorkerProcess {
    /// Starts it and waits until it has connected.
    ///
    /// # Panics
    /// When it does not.
    pub fn start(binary: &str, arguments: &[&str]) -> Self {
        Self::start_logging(binary, arguments, Stdio::inherit())
    }

    /// Starts it with its log in this place, and waits until it has connected.
    ///
    /// # Panics
    /// When it does not.
    pub fn start_logging(binary: &str, arguments: &[&str], log: impl Into<Stdio>) -> Self {
        let mut command = Command::new(binary);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut process = command.spawn().expect("the worker starts");
        let mut lines = BufReader::new(process.stdout.take().expect("it is piped")).lines();
        let first = lines.next().and_then(Result::ok);
        assert_eq!(first.as_deref(), Some("ready"), "the worker does not connect");
        // What else it says goes to whoever looks at a failed test.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| println!("worker: {line}")));
        Self { process }
    }

    /// Starts it and waits for nothing.
    ///
    /// # Panics
    /// When there is no such program.
    pub fn launch(binary: &str, arguments: &[String]) -> Self {
        let mut command = Command::new(binary);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
        Self { process: command.spawn().expect("the worker starts") }
    }

    /// Its id, as in the ledgers.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// `kill -9`.
    pub fn kill(self) {
        drop(self);
    }

    /// Freezes it.
    ///
    /// # Panics
    /// When it is gone.
    pub fn freeze(&self) {
        crate::redis::signal(self.id(), "-STOP");
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// When it is gone.
    pub fn thaw(&self) {
        crate::redis::signal(self.id(), "-CONT");
    }

    /// Tells it to end.
    ///
    /// # Panics
    /// When it is gone.
    pub fn terminate(&self) {
        crate::redis::signal(self.id(), "-TERM");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end.
    pub fn ended(&mut self) -> ExitStatus {
        eventually("the end of the worker", || self.process.try_wait().expect("it can be asked"))
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
