//! What the machine can do at best.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use rusqlite::{Connection, params};

use crate::print;

/// 4 KiB appends, each made durable.
pub(crate) fn fdatasync(directory: &Path, repeats: usize) {
    const APPENDS: u32 = 500;
    let path = directory.join("append");
    let values = (0..repeats)
        .map(|_| {
            let mut file = OpenOptions::new().create(true).append(true).open(&path).expect("the file opens");
            let block = [7u8; 4096];
            let began = Instant::now();
            for _ in 0..APPENDS {
                file.write_all(&block).expect("the block is written");
                file.sync_data().expect("the block is durable");
            }
            f64::from(APPENDS) / began.elapsed().as_secs_f64()
        })
        .collect();
    print("4 KiB append + fdatasync", "/s", 0, values);
}

/// Rows of 600 bytes under ascending 16-byte keys, WAL, `synchronous=FULL`.
pub(crate) fn sqlite(directory: &Path, repeats: usize, per_transaction: u64, rows: u64) {
    let values = (0..repeats)
        .map(|repeat| {
            let path = directory.join(format!("raw-{per_transaction}-{repeat}.db"));
            let mut db = Connection::open(path).expect("the database opens");
            db.pragma_update(None, "journal_mode", "WAL").expect("WAL");
            db.pragma_update(None, "synchronous", "FULL").expect("FULL");
            db.pragma_update(None, "wal_autocheckpoint", 20_000).expect("checkpoint");
            db.execute_batch("CREATE TABLE t (k BLOB PRIMARY KEY, v TEXT)").expect("table");
            let value = "x".repeat(600);
            let began = Instant::now();
            let mut key = 0u128;
            for _ in 0..rows / per_transaction {
                let transaction = db.transaction().expect("transaction");
                for _ in 0..per_transaction {
                    key += 1 << 24;
                    transaction
                        .prepare_cached("INSERT INTO t VALUES (?1, ?2)")
                        .and_then(|mut insert| insert.execute(params![key.to_be_bytes(), value]))
                        .expect("insert");
                }
                transaction.commit().expect("commit");
            }
            rows as f64 / began.elapsed().as_secs_f64()
        })
        .collect();
    print(&format!("SQLite FULL, {per_transaction} rows a transaction"), "rows/s", 0, values);
}
