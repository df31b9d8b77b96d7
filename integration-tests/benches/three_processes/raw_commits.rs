//! Single rows, each committed alone: the limit of a database beside which the rest is put.

use std::time::{Duration, Instant};

use tokio_postgres::NoTls;

const LENGTH: Duration = Duration::from_secs(2);

/// Rows of 700 bytes that so many sessions of Postgres commit one by one, per second.
pub(crate) async fn postgres(url: &str, sessions: usize) -> f64 {
    let connect = async || {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("Postgres answers");
        tokio::spawn(connection);
        client
    };
    let table = "CREATE TABLE IF NOT EXISTS raw_commits (id uuid PRIMARY KEY, text text)";
    connect().await.batch_execute(table).await.expect("a table");
    let mut tasks = Vec::new();
    let begin = Instant::now();
    for _ in 0..sessions {
        let client = connect().await;
        tasks.push(tokio::spawn(async move {
            let insert = "INSERT INTO raw_commits VALUES (gen_random_uuid(), $1)";
            let (insert, text) = (client.prepare(insert).await.expect("a statement"), "x".repeat(700));
            let mut count = 0_u32;
            while begin.elapsed() < LENGTH {
                client.execute(&insert, &[&text]).await.expect("a row");
                count += 1;
            }
            count
        }));
    }
    let mut count = 0;
    for task in tasks {
        count += task.await.expect("its count");
    }
    f64::from(count) / begin.elapsed().as_secs_f64()
}

/// Rows of 700 bytes that one connection of SQLite commits one by one, each on disk, per second.
pub(crate) fn sqlite(folder: &std::path::Path) -> f64 {
    let connection = rusqlite::Connection::open(folder.join("raw.db")).expect("a file");
    let tables =
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE raw (id INTEGER PRIMARY KEY, text)";
    connection.execute_batch(tables).expect("a table");
    let mut insert = connection.prepare("INSERT INTO raw (text) VALUES (?1)").expect("a statement");
    let (begin, mut count, text) = (Instant::now(), 0_u32, "x".repeat(700));
    while begin.elapsed() < LENGTH {
        insert.execute([&text]).expect("a row");
        count += 1;
    }
    f64::from(count) / begin.elapsed().as_secs_f64()
}
