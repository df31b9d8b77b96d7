//! The ways of the server's questions in a database that has no statistics yet.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, reason = "for tests")]

mod support;

use std::time::Duration;

use aiki_conformance::server::{Pass, as_claimed, create_as, ready_request, request, try_claim};
use aiki_core::Client;
use aiki_core::listing::{RunFilter, WorkflowFilter};
use aiki_core::run::head::ConcurrencyKey;
use aiki_core::run::plan::CreateRun;
use aiki_core::run::{ConflictPolicy, Reference, RunStatus};
use support::on;
use test_postgres::Schema;
use tokio::time::{sleep, timeout};

const RUNS: i64 = 50;
/// Far longer than anything takes here.
const PATIENCE: Duration = Duration::from_secs(30);

async fn create(client: &Client, name: &str) {
    let mut asked: CreateRun = request("1");
    asked.reference = Some(Reference { id: name.to_owned(), conflict_policy: ConflictPolicy::default() });
    create_as(client, asked).await;
}

/// How often an index was used, and how many rows were read by way of it.
async fn used(looking: &tokio_postgres::Client, index: &str) -> (i64, i64) {
    let select = "SELECT idx_scan, idx_tup_fetch FROM pg_stat_user_indexes
                  WHERE schemaname = current_schema() AND indexrelname = $1";
    let row = looking.query_one(select, &[&index]).await.unwrap();
    (row.get(0), row.get(1))
}

#[tokio::test]
async fn a_reference_is_found_by_its_own_index_though_the_table_was_empty_when_the_way_was_chosen() {
    let schema = Schema::fresh().await;
    let server = on(&schema).start().await.unwrap();
    let (client, looking) = (server.client(), schema.connect().await);
    looking.batch_execute("ALTER TABLE runs SET (autovacuum_enabled = off)").await.unwrap();
    for run in 0..RUNS {
        create(&client, &format!("run-{run}")).await;
    }
    for run in 0..RUNS {
        let filter = RunFilter { reference_id: Some(format!("run-{run}")), ..RunFilter::default() };
        let mut list = client.list_runs(filter);
        assert!(list.next().await.unwrap().is_some(), "run-{run}");
    }
    // A session tells its figures with what it does a second later.
    let told = async {
        for more in 0.. {
            create(&client, &format!("more-{more}")).await;
            create(&client, "run-0").await;
            let filter = RunFilter { reference_id: Some("run-0".into()), ..RunFilter::default() };
            client.list_runs(filter).count().await.unwrap();
            if used(&looking, "runs_reference").await.0 >= 2 * RUNS {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    let in_time = timeout(PATIENCE, told).await;
    for other in ["runs_status", "runs_workflow"] {
        assert_eq!(used(&looking, other).await.1, 0, "rows were read by way of {other}");
    }
    assert!(in_time.is_ok(), "runs_reference was used {} times", used(&looking, "runs_reference").await.0);
}

#[tokio::test]
async fn a_list_of_a_rare_status_reads_no_other_runs_though_statistics_say_that_most_have_one_status() {
    let schema = Schema::fresh().await;
    let server = on(&schema).start().await.unwrap();
    let (client, looking) = (server.client(), schema.connect().await);
    create(&client, "first").await;
    let many = "
        INSERT INTO runs (id, version, namespace, source, name, version_id, pool, status, pages, head, tail)
        SELECT (lpad(to_hex(n), 12, '0') || repeat('0', 20))::uuid, 1, namespace, source, name, version_id, pool,
               'completed', 0, repeat('x', 1000), tail
        FROM runs, generate_series(1, 20000) AS n ORDER BY n;
        ALTER TABLE runs SET (autovacuum_enabled = off);
        ANALYZE runs";
    looking.batch_execute(many).await.unwrap();
    let stalled = RunFilter { statuses: vec![RunStatus::Stalled], ..RunFilter::default() };
    let of_workflow = RunFilter { workflow: Some(WorkflowFilter::named("rare")), ..RunFilter::default() };
    let before = used(&looking, "runs_pkey").await.1;
    let told = async {
        loop {
            for filter in [&stalled, &of_workflow] {
                assert!(client.list_runs(filter.clone()).next().await.unwrap().is_none());
            }
            if used(&looking, "runs_status").await.0 >= RUNS && used(&looking, "runs_workflow").await.0 >= RUNS {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    let in_time = timeout(PATIENCE, told).await;
    let read = used(&looking, "runs_pkey").await.1 - before;
    assert!(read < 1_000, "{read} rows were read in the order of their ids");
    assert!(in_time.is_ok(), "runs_status was used {} times", used(&looking, "runs_status").await.0);
}

#[tokio::test]
async fn a_run_that_ends_reads_no_more_of_its_key_however_many_wait() {
    let schema = Schema::fresh().await;
    let server = on(&schema).start().await.unwrap();
    let (client, looking) = (server.client(), schema.connect().await);
    let mut runs = Vec::new();
    for _ in 0..2 + 2 * RUNS {
        let shared = Some(ConcurrencyKey { key: "tenant".into(), limit: 1 });
        runs.push(create_as(&client, CreateRun { concurrency: shared, ..request("1") }).await);
    }
    let mut holder = as_claimed(try_claim(&client, "w", runs[0]).await);
    for run in &runs[1..] {
        try_claim(&client, "w", *run).await;
    }
    // So many more behind the others, as the database knows only in the second half.
    let many = "
        ALTER TABLE runs SET (autovacuum_enabled = off);
        INSERT INTO runs (id, version, namespace, source, name, version_id, pool, status, pages, head, tail, slot_key,
                          wait_limit, wait_rank)
        SELECT (lpad(to_hex(n), 12, '0') || repeat('0', 20))::uuid, 1, namespace, source, name, version_id, pool,
               status, 0, 'x', '', slot_key, wait_limit, wait_rank + 1000000000 + n
        FROM (SELECT * FROM runs WHERE wait_limit IS NOT NULL LIMIT 1) AS one, generate_series(1, 20000) AS n";
    looking.batch_execute(many).await.unwrap();
    let read = async || -> i64 {
        let select = "SELECT sum(idx_tup_read)::bigint + sum(idx_tup_fetch)::bigint FROM pg_stat_user_indexes
                      WHERE schemaname = current_schema() AND relname = 'runs'";
        looking.query_one(select, &[]).await.unwrap().get(0)
    };
    for half in 0..2 {
        let (before, scans) = (read().await, used(&looking, "runs_slot").await.0);
        for _ in 0..RUNS {
            Pass::of(&client, holder).finish().await;
            holder = client.server().claim_ready(ready_request("w", 1)).await.unwrap().remove(0);
        }
        let told = timeout(PATIENCE, async {
            while used(&looking, "runs_slot").await.0 < scans + RUNS {
                create(&client, "more").await;
                sleep(Duration::from_millis(100)).await;
            }
        });
        assert!(told.await.is_ok(), "runs_slot was used {} times", used(&looking, "runs_slot").await.0 - scans);
        let read = read().await - before;
        println!("half {half}: {read}");
        assert!(read < 100 * RUNS, "{read} rows were read for {RUNS} ends");
        looking.batch_execute("ANALYZE runs").await.unwrap();
    }
}
