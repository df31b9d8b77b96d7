//! A server process that belongs to one test.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// The program with these arguments and without the variables of whoever runs the tests.
pub fn command(binary: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary);
    command.args(arguments).stdin(Stdio::null());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("AIKI_") || name == "STATE_DIRECTORY") {
        command.env_remove(name);
    }
    command
}

/// Runs the program to its end.
///
/// # Panics
/// When it cannot be started.
#[allow(clippy::expect_used)]
pub fn run(binary: &str, arguments: &[&str]) -> Output {
    command(binary, arguments).output().expect("the program starts")
}

/// What the program said when it did not start: its exit code and its only line.
///
/// # Panics
/// When it said more or less than one line.
#[allow(clippy::expect_used)]
pub fn refused(binary: &str, arguments: &[&str]) -> (i32, String) {
    let output = run(binary, arguments);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(text.lines().count(), 1, "one line: {text}");
    assert!(output.stdout.is_empty(), "{:?}", output.stdout);
    (output.status.code().expect("it ended by itself"), text.trim().to_owned())
}

/// A server that serves. It is killed with this value.
#[derive(Debug)]
pub struct Program {
    process: Child,
    log: Arc<Mutex<String>>,
    collector: Option<JoinHandle<()>>,
    address: SocketAddr,
}

#[allow(clippy::expect_used, clippy::panic)]
impl Program {
    /// Starts one on a free port of the loopback interface, and waits until it serves.
    ///
    /// # Panics
    /// When it does not.
    pub fn start(binary: &str, arguments: &[&str]) -> Self {
        let mut all = vec!["--listen", "127.0.0.1:0"];
        all.extend(arguments);
        Self::spawn(command(binary, &all))
    }

    /// Starts it with this command.
    ///
    /// # Panics
    /// When it does not serve.
    pub fn spawn(mut command: Command) -> Self {
        let mut process = command.stderr(Stdio::piped()).spawn().expect("the program starts");
        let log = Arc::default();
        let collector = collect(process.stderr.take().expect("it is piped"), Arc::clone(&log));
        let begun = Instant::now();
        loop {
            let text = read(&log);
            let serving = text.lines().find(|line| line.contains("serving"));
            if let Some(address) = serving.and_then(address_in) {
                return Self { process, log, collector: Some(collector), address };
            }
            let ended = process.try_wait().expect("it can be asked");
            assert!(ended.is_none() && begun.elapsed() < PATIENCE, "it does not serve ({ended:?}): {text}");
            std::thread::sleep(PAUSE);
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        read(&self.log)
    }

    /// Sends a signal, such as `-TERM`.
    ///
    /// # Panics
    /// When the process is gone.
    pub fn signal(&self, signal: &str) {
        crate::redis::signal(self.process.id(), signal);
    }

    /// Waits until it has logged this.
    ///
    /// # Panics
    /// When it does not.
    pub fn logged(&self, text: &str) {
        eventually(&format!("the log line `{text}`"), || self.log().contains(text).then_some(()));
    }

    /// Whether it runs.
    ///
    /// # Panics
    /// When it cannot be asked.
    pub fn runs(&mut self) -> bool {
        self.process.try_wait().expect("it can be asked").is_none()
    }

    /// Waits for its end, and for its last words.
    ///
    /// # Panics
    /// When it does not end.
    pub fn ended(&mut self) -> ExitStatus {
        let process = &mut self.process;
        let status = eventually("the end of the program", || process.try_wait().expect("it can be asked"));
        if let Some(collector) = self.collector.take() {
            collector.join().expect("the log can be read");
        }
        status
    }

    /// Sends a request; answers status and body.
    ///
    /// # Panics
    /// When there is no answer.
    pub fn ask(&self, method: &str, path: &str, key: Option<&str>, body: &str) -> (u16, String) {
        ask(self.address, method, path, key, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// The same for a GET without a key.
    ///
    /// # Panics
    /// When there is no answer.
    pub fn get(&self, path: &str) -> (u16, String) {
        self.ask("GET", path, None, "")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn read(log: &Mutex<String>) -> String {
    log.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn collect(stderr: ChildStderr, log: Arc<Mutex<String>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            log.push_str(&line);
            log.push('\n');
        }
    })
}

/// `... address=127.0.0.1:4321 ...`, or the same in JSON.
fn address_in(line: &str) -> Option<SocketAddr> {
    let after = line.split_once("address=").or_else(|| line.split_once("\"address\":\""))?.1;
    after.split([' ', '"']).next()?.parse().ok()
}

/// Waits until there is an answer.
///
/// # Panics
/// When there is none in good time.
#[allow(clippy::panic)]
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what} does not come");
        std::thread::sleep(PAUSE);
    }
}

/// Sends a request; answers status and body.
///
/// # Errors
/// When there is no answer.
pub fn ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    key: Option<&str>,
    body: &str,
) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let key = key.map(|key| format!("authorization: Bearer {key}\r\n")).unwrap_or_default();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: aiki\r\n{key}content-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{body}",
        body.len()
    )?;
    answer(&mut stream)
}

/// Reads the answer of a connection that ends with it.
///
/// # Errors
/// When there is none.
pub fn answer(stream: &mut TcpStream) -> std::io::Result<(u16, String)> {
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let status = text.split_whitespace().nth(1).and_then(|status| status.parse().ok());
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    status.map(|status| (status, body)).ok_or_else(|| std::io::Error::other(format!("not an answer: {text:?}")))
}
