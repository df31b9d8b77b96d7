//! Server and workers with little memory, few descriptors, and too many of them at once.
//!
//! The larger sizes: `cargo run -p integration-tests --bin matrix -- --help`. What was measured is printed and not judged.
#![allow(clippy::expect_used, reason = "a panic is how a test fails")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use fred::types::Value;
use integration_tests::burdens;
use integration_tests::chain::Chain;
use integration_tests::matrix::crowd::{Crowd, crowd};
use integration_tests::matrix::restart::restart;
use integration_tests::matrix::storm::storm;
use integration_tests::program::{self, Program};
use integration_tests::redis::{Proxy, RedisServer, command, connect};
use integration_tests::rig::{Programs, Rig};
use integration_tests::usage::Usage;
use tokio::time::sleep;

const SERVER: &str = env!("CARGO_BIN_EXE_server-program");
const WORKER: &str = env!("CARGO_BIN_EXE_remote-worker");
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

fn programs() -> Programs {
    Programs::at(SERVER, WORKER)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_results_and_many_runs_go_through_processes_with_little_memory() {
    let size = Crowd { queued: 1_000, results: 60, bytes: 999_000, limit_mb: 512, slots: 16 };
    println!("{}", crowd(programs(), size).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_start_at_once_all_come_to_work_and_to_an_end() {
    println!("{}", storm(programs(), 24).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_with_many_queued_runs_is_ready_again_and_has_them_all() {
    println!("{}", restart(programs(), 3_000).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_without_file_descriptors_works_again_when_they_are_free() {
    let redis = RedisServer::start().await;
    let admin = connect(&redis.url()).await;
    let mut rig = Rig::start(programs(), Some(redis.url()), &[]).await;
    let proxy = Proxy::to(rig.port).await;
    rig.port = proxy.port();
    let worker = rig.worker("poor", &["--burdens"], &["prlimit", "--nofile=64"]);
    let before = Usage::of(worker.id()).expect("it runs");
    let mut runs = Vec::new();
    for number in 0..3 {
        runs.push(rig.run(Chain { number, tasks: 2, task_ms: 10 }).await);
    }
    rig.complete(&runs, PATIENCE).await;

    let folder = rig.directory.path().to_owned();
    let hoard = burdens::hoard().start(&rig.client, folder.clone()).await.expect("the run starts");
    let note = || std::fs::read_to_string(folder.join("hoarding")).unwrap_or_default();
    let began = Instant::now();
    while note().is_empty() {
        assert!(began.elapsed() < PATIENCE, "nothing is hoarded");
        sleep(Duration::from_millis(10)).await;
    }
    assert!(Usage::of(worker.id()).expect("it runs").descriptors >= 64, "there is one left");
    // Every connection that it has is cut, and it cannot make another.
    proxy.turn_to(rig.server.address().port());
    command::<Value>(&admin, "CLIENT KILL TYPE normal SKIPME yes").await;
    // Their tasks need none.
    let mut later = Vec::new();
    for _ in 0..6 {
        later.push(burdens::bulk().start(&rig.client, 1_000).await.expect("the run starts"));
    }
    // Its claim cannot be prolonged either: the handler is stopped before the lease is over, and gives them back.
    let freed = async {
        while Usage::of(worker.id()).expect("nobody ended it").descriptors >= 60 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, freed).await.expect("the hoard is given back");
    let lasted = began.elapsed();
    let (free, mut meanwhile) = (Instant::now(), 0);
    for run in &later {
        meanwhile += usize::from(run.state().await.expect("its state").is_terminal());
    }
    for run in &later {
        let end = tokio::time::timeout(PATIENCE, run.wait()).await.expect("it ends in good time");
        assert_eq!(end.expect("it completes"), 1_000);
    }
    println!(
        "no descriptor for {lasted:.1?}: {meanwhile} of 6 later runs were done meanwhile, all {:.2} s after they were free",
        free.elapsed().as_secs_f64()
    );
    let answer = tokio::time::timeout(PATIENCE, hoard.wait()).await.expect("it ends in good time");
    println!("the hoarder took descriptors {} times and answered {answer:?}", note().lines().count());
    answer.expect("it completes");
    let after = Usage::of(worker.id()).expect("it runs");
    println!("before: {before}\nafter:  {after}");
    assert!(after.descriptors < 48, "descriptors are not given back");
    let mut worker = worker;
    worker.terminate();
    assert_eq!(worker.ended().code(), Some(0));
}

/// The limit of a body unless told otherwise.
const BODY: usize = 4_000_000;
/// The limit of a payload.
const PAYLOAD: usize = 1_000_000;

/// Far more than that.
const HUGE: usize = 100_000_000;

/// The beginning and the end of a request for a run, around its input.
const AROUND: (&str, &str) = (r#"{"json":{"name":"w","versionId":"1","inputHash":{"value":"h"},"input":"#, "}}");

/// A body of 100 MB, as far as the server took it.
struct Sent {
    /// What was handed to the system before the connection broke.
    bytes: usize,
    /// The status, unless it was lost: who closes a connection with bytes in it that were not read, resets it.
    status: Option<u16>,
}

impl Sent {
    fn is_refused(&self) -> bool {
        // The rest is what fits into the buffers of the system.
        matches!(self.status, Some(413) | None) && self.bytes < HUGE / 2
    }
}

/// Sends a body of so many bytes for as long as the server takes it.
fn sends(server: SocketAddr, head: &str, bytes: usize, chunked: bool) -> Sent {
    let mut stream = TcpStream::connect(server).expect("it accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
    stream.set_write_timeout(Some(PATIENCE)).expect("a limit");
    write!(stream, "POST /api/workflowRun/createV1 HTTP/1.1\r\nhost: a\r\n{head}\r\n\r\n").expect("it is sent");
    let part = vec![b'x'; 65_536];
    let mut left = bytes;
    while left > 0 {
        let part = &part[..left.min(part.len())];
        let framed =
            if chunked { [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat() } else { part.to_vec() };
        if stream.write_all(&framed).is_err() {
            break;
        }
        left -= part.len();
    }
    if chunked {
        let _ = stream.write_all(b"0\r\n\r\n");
    }
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text);
    let status = String::from_utf8_lossy(&text).split_whitespace().nth(1).and_then(|status| status.parse().ok());
    Sent { bytes: bytes - left, status }
}

/// Sends this much and no more, so that the server has read everything when it answers: nothing can be lost.
fn answer_to(server: SocketAddr, head: &str, body: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(server).expect("it accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
    write!(stream, "POST /api/workflowRun/createV1 HTTP/1.1\r\nhost: a\r\n{head}\r\n\r\n").expect("it is sent");
    stream.write_all(body).expect("it is sent");
    program::answer(&mut stream).expect("an answer, and the end of the connection")
}

/// How many requests the server says that it refused for their size.
fn refused_for_size(server: &Program) -> u64 {
    let text = server.get("/metrics").1;
    let counted = |line: &&str| line.starts_with("aiki_requests_total{") && line.contains("status=\"413\"");
    text.lines().filter(counted).filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

/// Memory at its highest, in bytes.
fn peak(server: &Program) -> u64 {
    Usage::of(server.id()).expect("it runs").peak_kb << 10
}

#[test]
fn bodies_of_100_mb_are_refused_before_they_are_in_memory() {
    let server = Program::start(SERVER, &["--database", "memory"]);
    let create =
        |input: &str| server.ask("POST", "/api/workflowRun/createV1", None, &[AROUND.0, input, AROUND.1].concat()).0;
    assert_eq!(create("7"), 200);
    let announced = format!("content-length: {HUGE}");
    let begin = peak(&server);
    let sent = sends(server.address(), &announced, HUGE, false);
    assert!(sent.is_refused(), "{:?} after {} bytes", sent.status, sent.bytes);
    let one_announced = peak(&server) - begin;
    assert_eq!(refused_for_size(&server), 1);
    let sent = sends(server.address(), "transfer-encoding: chunked", HUGE, true);
    assert!(sent.is_refused(), "{:?} after {} bytes", sent.status, sent.bytes);
    let one = peak(&server) - begin;
    assert_eq!(refused_for_size(&server), 2);
    // Who waits for the answer gets it.
    let chunk = [format!("{:x}\r\n", BODY + 1).as_bytes(), &vec![b'x'; BODY + 1]].concat();
    for (head, body) in [(announced.as_str(), &[][..]), ("transfer-encoding: chunked", &chunk)] {
        let (status, body) = answer_to(server.address(), head, body);
        assert!(status == 413 && body.contains(&format!("larger than {BODY} bytes")), "{head}: {status} {body}");
    }
    assert_eq!(refused_for_size(&server), 4);
    println!("memory for a body of 100 MB: + {one_announced} bytes announced, + {one} bytes unannounced");
    assert!(one < 3 * BODY as u64, "a body of 100 MB took {one} bytes");

    let text = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    for (bytes, status) in [(65_536, 200), (PAYLOAD - 1, 200), (PAYLOAD, 200), (PAYLOAD + 1, 400)] {
        assert_eq!(create(&text(bytes)), status, "an input of {bytes} bytes");
    }
    let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    for (input, status) in [(deep(10_000), 400), ("NaN".into(), 400), ("1e308".into(), 200)] {
        assert_eq!(create(&input), status, "{:.20}", input);
    }
    let after = peak(&server) - begin;
    println!("memory after inputs of up to 1 MB, a depth of 10,000 and wrong numbers: + {after} bytes");

    let many = 16;
    std::thread::scope(|scope| {
        let (address, announced) = (server.address(), &announced);
        for number in 0..many {
            let chunked = number % 2 == 0;
            let head = if chunked { "transfer-encoding: chunked" } else { announced };
            scope.spawn(move || {
                let sent = sends(address, head, HUGE, chunked);
                assert!(sent.is_refused(), "{:?} after {} bytes", sent.status, sent.bytes);
            });
        }
    });
    let all = peak(&server) - begin;
    assert_eq!(refused_for_size(&server), 4 + many as u64, "each of them was refused for its size");
    println!("memory for {many} bodies of 100 MB at once, half of them announced: + {all} bytes");
    assert!(all < 3 * (many as u64 / 2) * BODY as u64, "{many} bodies at once took {all} bytes");
    assert_eq!(create("8"), 200);
    assert_eq!(server.get("/readyz").0, 200);
}
