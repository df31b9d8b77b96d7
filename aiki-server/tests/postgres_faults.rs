//! Postgres crashes, freezes and loses connections; its servers go on by themselves.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, reason = "for tests")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aiki_conformance::server::{Pass, claim, create, request, status};
use aiki_core::run::plan::CreateRun;
use aiki_core::run::{Reference, RunStatus};
use aiki_core::server_client::CreatedRun;
use aiki_core::{Client, ServerError, Transition};
use aiki_server::ServerStartError;
use support::{SELDOM, on};
use test_postgres::{PostgresServer, Schema};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};

/// Far longer than anything takes here.
const PATIENCE: Duration = Duration::from_secs(30);

async fn try_create(client: &Client, reference: &str) -> Result<CreatedRun, ServerError> {
    let reference = Some(Reference { id: reference.into(), conflict_policy: Default::default() });
    client.server().create_run(CreateRun { reference, ..request("1") }).await
}

/// Asks again while the store is away, as callers do.
async fn insist(client: &Client, reference: &str) -> CreatedRun {
    let asking = async {
        loop {
            match try_create(client, reference).await {
                Ok(created) => return created,
                Err(ServerError::Unavailable(_)) => sleep(Duration::from_millis(50)).await,
                Err(error) => panic!("{error}"),
            }
        }
    };
    timeout(PATIENCE, asking).await.unwrap()
}

/// How long Postgres is away here: longer than any pause between two tries of the server.
const AWAY: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_crash_of_ten_seconds_needs_no_restart_of_the_server() {
    let mut postgres = PostgresServer::start().await;
    let schema = Schema::fresh_in(postgres.url());
    let (a, b) = (on(&schema).start().await.unwrap(), on(&schema).start().await.unwrap());
    let client = a.client();
    let run = create(&client).await;
    let mut pass = claim(&client, "w", run).await;
    pass.report(vec![Pass::sleep(0, Duration::from_secs(2)), Transition::Suspended]).await;
    let (waiting, waiter) = (create(&client).await, b.client());
    let wait = tokio::spawn(async move { waiter.server().await_run(waiting, PATIENCE * 2).await });
    sleep(Duration::from_millis(100)).await;
    postgres.crash();
    let (begun, mut refused) = (Instant::now(), 0);
    while begun.elapsed() < AWAY {
        refused += 1;
        // The answer comes soon, and says what to do.
        let error = timeout(Duration::from_secs(4), try_create(&client, "r")).await.unwrap().unwrap_err();
        assert!(matches!(&error, ServerError::Unavailable(text) if text.contains("ask again")), "{error}");
        let error = client.server().get_run(run).await.unwrap_err();
        assert!(matches!(error, ServerError::Unavailable(_)), "{error}");
        sleep(Duration::from_millis(50)).await;
    }
    println!("{refused} requests were refused in {:.1} s", begun.elapsed().as_secs_f64());
    postgres.restart().await;
    let created = insist(&client, "r").await;
    assert_eq!(insist(&b.client(), "r").await.id, created.id);
    // Timers, and those who wait for ends at the other server, go on as well.
    let woken = async {
        while status(&b.client(), run).await != RunStatus::Queued {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, woken).await.unwrap();
    client.server().cancel_run(waiting, None).await.unwrap();
    let view = timeout(PATIENCE, wait).await.unwrap().unwrap().unwrap();
    assert_eq!(view.state.status(), RunStatus::Cancelled);
}

#[tokio::test]
async fn a_crash_under_load_loses_nothing_that_was_acknowledged() {
    let mut postgres = PostgresServer::start().await;
    let schema = Schema::fresh_in(postgres.url());
    let server = on(&schema).start().await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..8 {
        let (client, stop) = (server.client(), Arc::clone(&stop));
        tasks.spawn(async move {
            let mut made = Vec::new();
            while !stop.load(Ordering::SeqCst) {
                let reference = format!("{task}-{}", made.len());
                made.push((insist(&client, &reference).await.id, reference));
            }
            made
        });
    }
    sleep(Duration::from_millis(500)).await;
    for _ in 0..2 {
        postgres.crash();
        sleep(Duration::from_millis(300)).await;
        postgres.restart().await;
        sleep(Duration::from_millis(700)).await;
    }
    stop.store(true, Ordering::SeqCst);
    let made: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    let looking = schema.connect().await;
    let stored: i64 = looking.query_one_scalar("SELECT count(*) FROM runs", &[]).await.unwrap();
    assert_eq!(stored, made.len() as i64, "each reference has one run");
    assert!(made.len() > 50, "{}", made.len());
    for (run, reference) in made {
        assert_eq!(try_create(&server.client(), &reference).await.unwrap().id, run);
    }
}

#[tokio::test]
async fn a_session_that_freezes_is_left_and_the_server_goes_on() {
    let postgres = PostgresServer::start().await;
    let schema = Schema::fresh_in(postgres.url());
    let server = on(&schema).look_every(SELDOM).start().await.unwrap();
    let client = server.client();
    create(&client).await;
    let looking = schema.connect().await;
    let lane = "SELECT pid FROM pg_stat_activity WHERE application_name = 'aiki' ORDER BY backend_start LIMIT 1";
    let lane: i32 = looking.query_one_scalar(lane, &[]).await.unwrap();
    postgres.signal(lane, "-STOP");
    let error = timeout(PATIENCE, client.server().create_run(request("1"))).await.unwrap().unwrap_err();
    assert!(matches!(&error, ServerError::Unavailable(text) if text.contains("may have taken effect")), "{error}");
    let created = insist(&client, "r").await;
    postgres.signal(lane, "-CONT");
    // It works off what it was sent, and ends.
    let gone = async {
        let left = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1";
        while looking.query_one_scalar::<i64, _>(left, &[&lane]).await.unwrap() > 0 {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, gone).await.unwrap();
    let count: i64 = looking.query_one_scalar("SELECT count(*) FROM runs", &[]).await.unwrap();
    assert_eq!(count, 3, "it did take effect, once");
    assert_eq!(insist(&client, "r").await.id, created.id);
}

#[tokio::test]
async fn rows_that_somebody_keeps_locked_hold_up_nobody_else() {
    let schema = Schema::fresh().await;
    let server = on(&schema).start().await.unwrap();
    let client = server.client();
    let (locked, free) = (create(&client).await, create(&client).await);
    // As a server would leave it that was stopped in the middle of a transaction, with the limit of a server's session.
    let stopped = schema.connect().await;
    stopped.batch_execute("SET idle_in_transaction_session_timeout = 2000; BEGIN").await.unwrap();
    let lock = "SELECT 1 FROM runs WHERE head LIKE '%' || $1 || '%' FOR UPDATE";
    assert_eq!(stopped.execute(lock, &[&locked.to_string()]).await.unwrap(), 1);
    let begun = Instant::now();
    let (refused, done) = {
        let other = server.client();
        tokio::join!(client.server().cancel_run(locked, None), other.server().cancel_run(free, None))
    };
    assert!(matches!(&refused, Err(ServerError::Unavailable(text)) if text.contains("lock")), "{refused:?}");
    done.unwrap();
    assert!(begun.elapsed() < PATIENCE);
    let cancelled = async {
        while client.server().cancel_run(locked, None).await.is_err() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, cancelled).await.unwrap();
}

#[tokio::test]
async fn sessions_have_limits_so_that_a_stopped_server_holds_up_nobody() {
    let schema = Schema::fresh().await;
    let server = on(&schema).start().await.unwrap();
    create(&server.client()).await;
    // A session of a server tells its limits through a function of the schema that reports needs.
    let looking = schema.connect().await;
    let function = "
        CREATE TABLE seen (name text, value text);
        CREATE OR REPLACE FUNCTION fence(changed bigint, named bigint) RETURNS bigint LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO seen SELECT name, current_setting(name) FROM unnest(array['lock_timeout', 'statement_timeout',
                'idle_in_transaction_session_timeout', 'synchronous_commit']) AS name;
            RETURN changed;
        END $$";
    looking.batch_execute(function).await.unwrap();
    let run = create(&server.client()).await;
    claim(&server.client(), "w", run).await;
    let rows = looking.query("SELECT DISTINCT name, value FROM seen ORDER BY name", &[]).await.unwrap();
    let seen: Vec<(String, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let expected = [
        ("idle_in_transaction_session_timeout", "2s"),
        ("lock_timeout", "250ms"),
        ("statement_timeout", "5s"),
        ("synchronous_commit", "on"),
    ];
    assert_eq!(seen, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

/// Stands between a server and Postgres.
struct Proxy {
    port: u16,
    /// The next commit is passed on, its answers are kept back, and the connection is cut.
    armed: Arc<AtomicBool>,
}

impl Proxy {
    async fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, armed) = (listener.local_addr().unwrap().port(), Arc::new(AtomicBool::new(false)));
        let own = Arc::clone(&armed);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(Self::pass(client, to, Arc::clone(&own)));
            }
        });
        Self { port, armed }
    }

    async fn pass(client: TcpStream, to: u16, armed: Arc<AtomicBool>) {
        let postgres = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_postgres, mut to_postgres) = postgres.into_split();
        let swallow = Arc::new(AtomicBool::new(false));
        let swallows = Arc::clone(&swallow);
        let up = tokio::spawn(async move {
            let mut bytes = [0; 65_536];
            while let Ok(count @ 1..) = from_client.read(&mut bytes).await {
                let commits = bytes[..count].windows(7).any(|window| window == b"COMMIT\0");
                if commits && armed.swap(false, Ordering::SeqCst) {
                    swallows.store(true, Ordering::SeqCst);
                }
                to_postgres.write_all(&bytes[..count]).await.unwrap();
            }
        });
        let mut bytes = [0; 65_536];
        while let Ok(count @ 1..) = from_postgres.read(&mut bytes).await {
            if swallow.load(Ordering::SeqCst) {
                // All that was asked is done before the connection is cut.
                let quiet = Duration::from_millis(300);
                while let Ok(Ok(1..)) = timeout(quiet, from_postgres.read(&mut bytes)).await {}
                break;
            }
            to_client.write_all(&bytes[..count]).await.unwrap();
        }
        up.abort();
    }
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_not_applied_twice() {
    let postgres = PostgresServer::start_with(&["fsync=off"]).await;
    let proxy = Proxy::start(postgres.port()).await;
    let direct = Schema::fresh_in(postgres.url());
    let through = postgres.url().replace(&postgres.port().to_string(), &proxy.port.to_string());
    let proxied = Schema { url: through, name: direct.name.clone() };
    let server = on(&proxied).start().await.unwrap();
    let client = server.client();
    let run = create(&client).await;
    let mut pass = claim(&client, "w", run).await;
    let opened = pass.open(0);
    let report = pass.next(vec![opened]);
    // Both are done, and the answers never come.
    proxy.armed.store(true, Ordering::SeqCst);
    let lost = try_create(&client, "r").await.unwrap_err();
    assert!(matches!(&lost, ServerError::Unavailable(text) if text.contains("may have taken effect")), "{lost}");
    proxy.armed.store(true, Ordering::SeqCst);
    let lost = client.server().report(report.clone()).await.unwrap_err();
    assert!(matches!(&lost, ServerError::Unavailable(text) if text.contains("may have taken effect")), "{lost}");
    let looking = direct.connect().await;
    let count: i64 = looking.query_one_scalar("SELECT count(*) FROM runs", &[]).await.unwrap();
    assert_eq!(count, 2, "it was stored");
    assert!(insist(&client, "r").await.existed);
    let receipt = async {
        loop {
            match client.server().report(report.clone()).await {
                Ok(receipt) => return receipt,
                Err(ServerError::Unavailable(_)) => sleep(Duration::from_millis(50)).await,
                Err(error) => panic!("{error}"),
            }
        }
    };
    let receipt = timeout(PATIENCE, receipt).await.unwrap();
    assert_eq!(client.server().report(report).await.unwrap(), receipt);
    let record = client.server().get_run(run).await.unwrap();
    assert_eq!(record.tasks.len(), 1);
    let count: i64 = looking.query_one_scalar("SELECT count(*) FROM runs", &[]).await.unwrap();
    assert_eq!(count, 2);
}

#[tokio::test]
async fn who_waits_hears_of_a_commit_whose_answer_is_lost() {
    let postgres = PostgresServer::start_with(&["fsync=off"]).await;
    let proxy = Proxy::start(postgres.port()).await;
    let direct = Schema::fresh_in(postgres.url());
    let through = postgres.url().replace(&postgres.port().to_string(), &proxy.port.to_string());
    let proxied = Schema { url: through, name: direct.name.clone() };
    let server = on(&proxied).start().await.unwrap();
    let client = server.client();
    let run = create(&client).await;
    let waiter = client.clone();
    let waiting = tokio::spawn(async move { waiter.server().await_run(run, PATIENCE * 2).await });
    sleep(Duration::from_millis(100)).await;
    proxy.armed.store(true, Ordering::SeqCst);
    let lost = client.server().cancel_run(run, None).await.unwrap_err();
    assert!(matches!(&lost, ServerError::Unavailable(text) if text.contains("may have taken effect")), "{lost}");
    let ended = timeout(PATIENCE, waiting).await.unwrap().unwrap().unwrap();
    assert_eq!(ended.state.status(), RunStatus::Cancelled);
}

#[tokio::test]
async fn a_wrong_password_is_said_in_one_line_without_the_secret() {
    let postgres = PostgresServer::start_with(&["fsync=off"]).await;
    postgres.require("right").await;
    let as_user = |password: &str| Schema {
        url: postgres.url().replace("postgres@", &format!("postgres:{password}@")),
        name: "aiki".into(),
    };
    let error = on(&as_user("wrong-one")).start().await.unwrap_err();
    assert!(matches!(error, ServerStartError::PostgresLogin { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("password") && !text.contains("wrong-one") && !text.contains('\n'), "{text}");
    let error = on(&Schema { url: postgres.url(), name: "aiki".into() }).start().await.unwrap_err();
    assert!(matches!(error, ServerStartError::PostgresLogin { .. }), "{error}");
    on(&as_user("right")).start().await.unwrap().close().await;
    let tls = Schema { url: format!("{}?sslmode=require", as_user("right").url), name: "aiki".into() };
    let error = on(&tls).start().await.unwrap_err();
    assert!(error.to_string().contains("TLS") || error.to_string().contains("encrypted"), "{error}");
}
