//! The program `aiki-server` as a process: how it starts, refuses to start, drains and stops.
#![allow(clippy::expect_used, reason = "a panic is how a test fails")]

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use integration_tests::program::{self, Program, answer, eventually, refused};
use integration_tests::redis::RedisServer;
use test_postgres::PostgresServer;

const BINARY: &str = env!("CARGO_BIN_EXE_server-program");
const GET_STATE: &str = "/api/workflowRun/getStateV1";
const NOBODY: &str = r#"{"json":{"id":"01K00000000000000000000000"}}"#;

fn database(folder: &Path) -> String {
    format!("sqlite://{}", folder.join("aiki.db").display())
}

fn create_key(database: &str, namespace: &str, role: &str, more: &[&str]) -> String {
    let mut arguments = vec!["keys", "create", "--database", database, "--namespace", namespace, "--role", role];
    arguments.extend(more);
    let output = program::run(BINARY, &arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

fn id_of(key: &str) -> String {
    key["aiki_".len()..].split('_').next().expect("an id").to_owned()
}

#[test]
fn it_serves_and_ends_with_0_after_sigterm() {
    for signal in ["-TERM", "-INT"] {
        let mut server = Program::start(BINARY, &["--database", "memory"]);
        assert_eq!(server.get("/healthz"), (200, r#"{"status":"alive"}"#.into()));
        assert_eq!(server.get("/readyz"), (200, r#"{"ready":true,"parts":{"database":"ok"}}"#.into()));
        assert_eq!(server.get("/nowhere").0, 404);
        server.signal(signal);
        assert_eq!(server.ended().code(), Some(0), "{}", server.log());
        assert!(server.log().lines().last().is_some_and(|line| line.contains("stopped")), "{}", server.log());
    }
}

#[test]
fn a_request_that_is_under_way_is_answered_before_it_stops() {
    let mut server = Program::start(BINARY, &["--database", "memory"]);
    let mut stream = TcpStream::connect(server.address()).expect("it accepts");
    let (first, second) = NOBODY.split_at(5);
    write!(stream, "POST {GET_STATE} HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{first}", NOBODY.len())
        .expect("the first half is sent");
    eventually("the request", || server.get("/metrics").1.contains("aiki_requests_in_flight 1").then_some(()));
    server.signal("-TERM");
    server.logged("stopping");
    eventually("the end of listening", || TcpStream::connect(server.address()).is_err().then_some(()));
    assert!(server.runs(), "it waits for the request");
    stream.write_all(second.as_bytes()).expect("the second half is sent");
    let (status, body) = answer(&mut stream).expect("an answer");
    assert_eq!(status, 404, "{body}");
    assert_eq!(server.ended().code(), Some(0), "{}", server.log());
}

#[test]
fn a_request_that_does_not_end_holds_it_up_for_the_drain_time_only() {
    let mut server = Program::start(BINARY, &["--database", "memory", "--drain-time", "300ms"]);
    let mut stream = TcpStream::connect(server.address()).expect("it accepts");
    write!(stream, "POST {GET_STATE} HTTP/1.1\r\nhost: a\r\ncontent-length: 99\r\n\r\n{{").expect("it is sent");
    eventually("the request", || server.get("/metrics").1.contains("aiki_requests_in_flight 1").then_some(()));
    server.signal("-TERM");
    assert_eq!(server.ended().code(), Some(0), "{}", server.log());
    assert!(server.log().contains("cut off"), "{}", server.log());
}

#[test]
fn an_idle_connection_does_not_hold_it_up() {
    let mut server = Program::start(BINARY, &["--database", "memory", "--drain-time", "1h"]);
    let mut stream = TcpStream::connect(server.address()).expect("it accepts");
    write!(stream, "GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").expect("it is sent");
    eventually("the connection", || server.get("/metrics").1.contains("aiki_connections 2").then_some(()));
    server.signal("-TERM");
    assert_eq!(server.ended().code(), Some(0), "{}", server.log());
}

#[test]
fn without_file_descriptors_it_goes_on_serving_whom_it_has_and_recovers() {
    const LIMIT: usize = 64;
    let folder = tempfile::tempdir().expect("a folder");
    let limited = format!("ulimit -n {LIMIT}; exec \"$0\" \"$@\"");
    let database = database(folder.path());
    let command = ["-c", &limited, BINARY, "--listen", "127.0.0.1:0", "--database", &database];
    let mut server = Program::spawn(program::command("sh", &command));
    // Accepted in their order.
    let mut early = TcpStream::connect(server.address()).expect("it accepts");
    let crowd: Vec<_> = (0..2 * LIMIT).map(|_| TcpStream::connect(server.address()).expect("the backlog")).collect();
    let open = format!("/proc/{}/fd", server.id());
    let count = || std::fs::read_dir(&open).expect("it runs").count();
    eventually("the last descriptor", || (count() >= LIMIT).then_some(()));
    write!(early, "GET /readyz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").expect("it is sent");
    assert_eq!(answer(&mut early).expect("an answer").0, 200);
    drop(crowd);
    assert_eq!(server.get("/readyz").0, 200);
    eventually("the descriptors are free", || (count() < LIMIT / 2).then_some(()));
    server.signal("-TERM");
    assert_eq!(server.ended().code(), Some(0), "{}", server.log());
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut server = Program::start(BINARY, &["--database", "memory", "--drain-time", "1h"]);
    let mut stream = TcpStream::connect(server.address()).expect("it accepts");
    write!(stream, "POST {GET_STATE} HTTP/1.1\r\nhost: a\r\ncontent-length: 99\r\n\r\n{{").expect("it is sent");
    eventually("the request", || server.get("/metrics").1.contains("aiki_requests_in_flight 1").then_some(()));
    server.signal("-TERM");
    server.logged("stopping");
    std::thread::sleep(Duration::from_millis(100));
    assert!(server.runs());
    server.signal("-TERM");
    assert_eq!(server.ended().code(), Some(143), "{}", server.log());
}

#[test]
fn a_port_that_is_taken_is_one_line_and_code_3() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let (code, line) = refused(BINARY, &["--listen", &address, "--database", "memory"]);
    assert_eq!(code, 3);
    assert!(line.contains(&address) && line.contains("it is taken"), "{line}");
}

#[test]
fn a_database_that_cannot_be_had_is_one_line_and_its_code() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = database(folder.path());
    let refused = |url: &str| refused(BINARY, &["--listen", "127.0.0.1:0", "--database", url]);

    let server = Program::start(BINARY, &["--database", &place]);
    let (code, line) = refused(&place);
    assert_eq!(code, 5);
    assert!(line.contains("is in use by another server"), "{line}");
    drop(server);

    let (code, line) = refused("sqlite:///nowhere/at/all/aiki.db");
    assert_eq!(code, 4);
    assert!(line.contains("/nowhere/at/all") && line.contains("create it first"), "{line}");

    let file = folder.path().join("other.db");
    std::fs::write(&file, "not a database at all, but long enough to be taken for one").expect("a file");
    let (code, line) = refused(&format!("sqlite://{}", file.display()));
    assert_eq!(code, 6);
    assert!(line.contains("not a database of Aiki"), "{line}");

    let newer = rusqlite::Connection::open(folder.path().join("aiki.db")).expect("it opens");
    newer.pragma_update(None, "user_version", 1_000).expect("it is written");
    drop(newer);
    let (code, line) = refused(&place);
    assert_eq!(code, 6);
    assert!(line.contains("has schema 1000"), "{line}");
}

#[test]
fn a_mistake_in_the_configuration_is_one_line_and_code_2() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("aiki.toml");
    let path = file.to_str().expect("text");
    let cases: &[(&str, &[&str], &str)] = &[
        ("", &["--listn", "x"], "--listn"),
        ("", &["--drain-time", "30"], "--drain-time: expected a time"),
        ("", &["--log-format", "xml"], "--log-format: expected text or json"),
        ("", &["--log-level", "aiki=loud"], "log_level"),
        ("", &["--redis", "http://u:hunter2@h"], "--redis: the Redis URL must begin"),
        ("", &["--database", "aiki.db"], "--database: expected memory, sqlite://PATH"),
        ("", &["keys", "revoke", "nonsense"], "8 hex digits"),
        ("listn = 'x'", &["--config", path], "there is no setting `listn`"),
        ("listen = 'x'", &["--config", path], "listen in "),
        ("listen = ", &["--config", path], "aiki.toml: "),
        ("", &["--config", "/nowhere/aiki.toml"], "cannot be read"),
    ];
    for (text, arguments, told) in cases {
        std::fs::write(&file, text).expect("a file");
        let (code, line) = refused(BINARY, arguments);
        assert_eq!(code, 2, "{line}");
        assert!(line.contains(told) && !line.contains("hunter2"), "{told}: {line}");
    }
    let mut command = program::command(BINARY, &[]);
    let output = command.env("AIKI_LISTEN", "nowhere").output().expect("the program starts");
    let line = String::from_utf8_lossy(&output.stderr);
    assert!(line.contains("AIKI_LISTEN: ") && output.status.code() == Some(2), "{line}");
}

#[test]
fn the_configuration_in_force_is_logged_without_passwords() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("aiki.toml");
    std::fs::write(&file, "history_limit = 77\ndrain_time = '9s'\nlog_format = 'json'").expect("a file");
    let arguments = ["--listen", "127.0.0.1:0", "--database", "memory", "--config"];
    let mut command = program::command(BINARY, &arguments);
    command.arg(&file).env("AIKI_DRAIN_TIME", "8s").env("AIKI_REDIS", "redis://worker:hunter2@127.0.0.1:1");
    let server = Program::spawn(command);
    let log = server.log();
    let lines: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).expect("every line is JSON")).collect();
    let line = lines.iter().find(|line| line["message"] == "the configuration in force").expect("it is logged");
    assert_eq!((&line["history_limit"], &line["drain_time"]), (&77.into(), &"8s".into()));
    assert_eq!(line["redis"], "redis://***@127.0.0.1:1/0");
    assert!(!log.contains("hunter2"), "{log}");
}

#[test]
fn without_keys_it_listens_on_loopback_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = database(folder.path());
    let (code, line) = refused(BINARY, &["--listen", "0.0.0.0:0", "--database", &place]);
    assert_eq!(code, 7);
    assert!(line.contains("aiki-server keys create"), "{line}");
    let (code, _) = refused(BINARY, &["--listen", "0.0.0.0:0", "--database", "memory"]);
    assert_eq!(code, 7);
    create_key(&place, "shop", "client", &[]);
    let server = Program::spawn(program::command(BINARY, &["--listen", "0.0.0.0:0", "--database", &place]));
    let here = ([127, 0, 0, 1], server.address().port()).into();
    assert_eq!(program::ask(here, "POST", GET_STATE, None, NOBODY).expect("an answer").0, 401);
}

#[test]
fn keys_are_made_listed_and_revoked_while_the_server_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = database(folder.path());
    let server = Program::start(BINARY, &["--database", &place]);
    assert_eq!(server.ask("POST", GET_STATE, None, NOBODY).0, 404, "no key is needed yet");
    let worker = create_key(&place, "shop", "worker", &["--expires", "90d"]);
    let admin = create_key(&place, "shop", "admin", &[]);
    eventually("the need for a key", || (server.ask("POST", GET_STATE, None, NOBODY).0 == 401).then_some(()));
    assert_eq!(server.ask("POST", GET_STATE, Some(&worker), NOBODY).0, 404);
    assert_eq!(server.ask("GET", "/metrics", Some(&worker), "").0, 403);
    assert_eq!(server.ask("GET", "/metrics", Some(&admin), "").0, 200);
    assert_eq!(server.get("/metrics").0, 401);
    assert_eq!(server.get("/readyz").0, 200, "probes have no key");

    let list = program::run(BINARY, &["keys", "list", "--database", &place]);
    let list = String::from_utf8(list.stdout).expect("text");
    assert_eq!(list.lines().count(), 3, "{list}");
    assert!(list.contains(&id_of(&worker)) && list.contains("shop") && list.contains("never"), "{list}");
    assert!(!list.contains(worker.rsplit('_').next().expect("a secret")), "{list}");

    let revoked = program::run(BINARY, &["keys", "revoke", &id_of(&worker), "--database", &place]);
    assert!(revoked.status.success());
    let begun = std::time::Instant::now();
    let told = eventually("the revocation", || {
        let (status, body) = server.ask("POST", GET_STATE, Some(&worker), NOBODY);
        (status == 401).then_some(body)
    });
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    assert!(told.contains("revoked"), "{told}");
    let (code, line) = refused(BINARY, &["keys", "revoke", "00000000", "--database", &place]);
    assert!(code == 1 && line.contains("there is no key 00000000"), "{code} {line}");
}

#[test]
fn a_key_goes_into_a_file_that_only_its_owner_reads() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let place = database(folder.path());
    let file = folder.path().join("worker.key");
    let output = ["--output", file.to_str().expect("text")];
    assert_eq!(create_key(&place, "shop", "worker", &output), "");
    let key = std::fs::read_to_string(&file).expect("the key");
    assert!(key.starts_with("aiki_"), "{key}");
    assert_eq!(file.metadata().expect("the file").permissions().mode() & 0o777, 0o600);
    let mut again = vec!["keys", "create", "--database", &place, "--namespace", "shop", "--role", "worker"];
    again.extend(output);
    let (code, line) = refused(BINARY, &again);
    assert!(code == 1 && line.contains("the key was revoked"), "{code} {line}");
    assert_eq!(std::fs::read_to_string(&file).expect("the key"), key, "what is there stays");
}

#[tokio::test]
async fn readiness_tells_that_redis_is_away_and_that_it_is_back() {
    let mut redis = RedisServer::start().await;
    let url = redis.url();
    let server = Program::start(BINARY, &["--database", "memory", "--redis", &url]);
    let ready = |server: &Program| server.get("/readyz");
    eventually("readiness", || (ready(&server).0 == 200).then_some(()));
    redis.kill();
    let told = eventually("trouble", || Some(ready(&server)).filter(|(status, _)| *status == 503)).1;
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!((&told["ready"], &told["parts"]["database"]), (&false.into(), &"ok".into()));
    assert!(told["parts"]["redis"].as_str().is_some_and(|reason| reason != "ok"), "{told}");
    assert_eq!(server.get("/readyz?exclude=redis").0, 200, "who can do without Redis says so");
    assert_eq!(server.get("/healthz").0, 200, "it is alive all the same");
    assert!(server.get("/metrics").1.contains("aiki_ready 0"));
    redis.restart().await;
    eventually("readiness", || (ready(&server).0 == 200).then_some(()));
}

#[tokio::test]
async fn it_serves_on_postgres_and_tells_that_it_is_away_and_back() {
    let mut postgres = PostgresServer::start().await;
    let url = postgres.url();
    let mut server = Program::start(BINARY, &["--database", &url]);
    let new = r#"{"json":{"name":"w","versionId":"1","inputHash":{"value":"h"}}}"#;
    let (status, body) = server.ask("POST", "/api/workflowRun/createV1", None, new);
    assert_eq!(status, 200, "{body}");
    let created: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    let look = serde_json::json!({"json": {"id": created["json"]["id"]}}).to_string();
    assert_eq!(server.get("/readyz").0, 200);
    postgres.crash();
    let told = eventually("trouble", || {
        Some(server.get("/readyz")).filter(|(status, body)| *status == 503 && body.contains("reached"))
    });
    assert_eq!(server.get("/healthz").0, 200, "it is alive all the same");
    assert_eq!(server.ask("POST", GET_STATE, None, &look).0, 503, "{told:?}");
    postgres.restart().await;
    eventually("readiness", || (server.get("/readyz").0 == 200).then_some(()));
    assert_eq!(server.ask("POST", GET_STATE, None, &look).0, 200, "what was stored is there");

    let key = create_key(&url, "shop", "worker", &["--expires", "90d"]);
    eventually("the need for a key", || (server.ask("POST", GET_STATE, None, NOBODY).0 == 401).then_some(()));
    assert_eq!(server.ask("POST", GET_STATE, Some(&key), NOBODY).0, 404);
    let list = program::run(BINARY, &["keys", "list", "--database", &url]);
    assert!(String::from_utf8_lossy(&list.stdout).contains(&id_of(&key)), "{list:?}");
    assert!(program::run(BINARY, &["keys", "revoke", &id_of(&key), "--database", &url]).status.success());
    eventually("the revocation", || (server.ask("POST", GET_STATE, Some(&key), NOBODY).0 == 401).then_some(()));
    server.signal("-TERM");
    assert_eq!(server.ended().code(), Some(0), "{}", server.log());
}

#[tokio::test]
async fn a_postgres_that_cannot_be_had_is_one_line_without_the_password() {
    let postgres = PostgresServer::start().await;
    postgres.require("right").await;
    let port = postgres.port();
    let refused = |url: &str| refused(BINARY, &["--listen", "127.0.0.1:0", "--database", url]);
    let (code, line) = refused(&format!("postgres://postgres:hunter2@127.0.0.1:{port}/postgres"));
    assert!(code == 4 && line.contains("does not let the user in") && !line.contains("hunter2"), "{code} {line}");
    let (code, line) = refused(&format!("postgres://postgres:right@127.0.0.1:{port}/nowhere"));
    assert!(code == 4 && line.contains("there is no database") && !line.contains("right"), "{code} {line}");
    let (code, line) = refused("postgres://postgres:hunter2@127.0.0.1:1/postgres");
    assert!(code == 4 && line.contains("cannot be reached") && !line.contains("hunter2"), "{code} {line}");
    let (code, line) = refused("postgres://postgres:hun@ter2hunter2@h/d");
    assert!(code == 2 && line.contains("%40") && !line.contains("hunter2"), "{code} {line}");
    let (client, connection) =
        tokio_postgres::connect(&format!("postgres://postgres:right@127.0.0.1:{port}/postgres"), tokio_postgres::NoTls)
            .await
            .expect("it answers");
    tokio::spawn(connection);
    client.batch_execute("CREATE SCHEMA aiki; CREATE TABLE aiki.theirs (x int)").await.expect("a table");
    let (code, line) = refused(&format!("postgres://postgres:right@127.0.0.1:{port}/postgres"));
    assert!(code == 6 && line.contains("belongs to another program") && !line.contains("right"), "{code} {line}");
    let left = "SELECT schema_name FROM information_schema.schemata WHERE schema_name = 'aiki_keys'";
    let left = client.query_opt(left, &[]).await.expect("it answers");
    assert!(left.is_none(), "a database that is refused is left as it was");
}

#[test]
fn what_happened_shows_in_the_metrics() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Program::start(BINARY, &["--database", &database(folder.path())]);
    let new = r#"{"json":{"name":"w","versionId":"1","inputHash":{"value":"h"}}}"#;
    let claim = r#"{"json":{"workflows":[{"source":"user","name":"w","versionId":"1"}],"limit":9}}"#;
    let (status, body) = server.ask("POST", "/api/workflowRun/createV1", None, new);
    assert_eq!(status, 200, "{body}");
    let created: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    let ids = serde_json::json!({"json": {"ids": [created["json"]["id"]]}}).to_string();
    assert_eq!(server.ask("POST", "/api/workflowRun/claimReadyV1", None, claim).0, 200);
    assert_eq!(server.ask("POST", "/api/workflowRun/cancelByIdsV1", None, &ids).0, 200);
    assert_eq!(server.ask("POST", "/api/made/up", None, "{}").0, 404);
    let text = server.get("/metrics").1;
    for line in [
        "aiki_workflows_started_total 1",
        "aiki_workflows_cancelled_total 1",
        "aiki_claims_total{answer=\"granted\"} 1",
        "aiki_requests_total{procedure=\"workflowRun/createV1\",status=\"200\"} 1",
        "aiki_requests_total{procedure=\"none\",status=\"404\"} 1",
        "aiki_ready 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    for name in ["aiki_commits_total{outcome=\"written\"}", "aiki_commit_seconds_bucket", "aiki_commit_requests_sum"] {
        assert!(text.contains(name), "{name}\n{text}");
    }
    assert!(!text.contains("made"), "what callers make up is no label\n{text}");
    // The table of the documentation has every name.
    let table = include_str!("../../docs/metrics.md");
    let named = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).filter_map(|line| line.split(' ').next());
    for name in named {
        assert!(table.contains(&format!("| `{name}`")), "{name} is not in docs/metrics.md");
    }
}

#[test]
fn the_health_check_of_a_container_says_what_the_server_says() {
    let mut server = Program::start(BINARY, &["--database", "memory"]);
    let address = server.address().to_string();
    assert!(program::run(BINARY, &["healthcheck", "--listen", &address]).status.success());
    assert!(program::run(BINARY, &["healthcheck", "--ready", "--listen", &address]).status.success());
    server.signal("-TERM");
    server.ended();
    let (code, line) = refused(BINARY, &["healthcheck", "--listen", &address]);
    assert!(code == 1 && line.contains("does not answer"), "{code} {line}");
}

#[test]
fn help_explains_exit_codes_and_variables() {
    let help = program::run(BINARY, &["--help"]);
    let text = String::from_utf8(help.stdout).expect("text");
    assert!(help.status.success() && help.stderr.is_empty());
    for told in ["Exit codes", "AIKI_DATABASE", "keys create --namespace shop", "127.0.0.1:9090"] {
        assert!(text.contains(told), "{told}\n{text}");
    }
}
