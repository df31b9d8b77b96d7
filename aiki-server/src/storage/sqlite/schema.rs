//! Tables and indexes, and how older databases get them.

use rusqlite::{Connection, TransactionBehavior};

/// Marks a database as Aiki's: `AIKI` in ASCII.
const APPLICATION_ID: i64 = 0x4149_4B49;

/// Step n leads from schema n to schema n + 1. Steps that were released never change.
const MIGRATIONS: &[&str] = &[
    "
    -- One row per run: while its history is short, a commit writes this row and nothing else.
    CREATE TABLE runs (
        id BLOB NOT NULL UNIQUE,          -- 16 bytes that sort by creation
        version INTEGER NOT NULL,         -- counts the writes of the row
        namespace TEXT NOT NULL,
        source TEXT NOT NULL,
        name TEXT NOT NULL,
        version_id TEXT NOT NULL,
        pool TEXT NOT NULL,               -- '' is none
        reference_id TEXT,
        status TEXT NOT NULL,
        due_at INTEGER,                   -- ms since the epoch: when the server looks at it again
        rank INTEGER,                     -- set while the run is ready
        pages INTEGER NOT NULL,           -- rows in history
        head TEXT NOT NULL,               -- JSON
        tail TEXT NOT NULL                -- the history behind its pages, one JSON entry per line
    ) STRICT;
    CREATE UNIQUE INDEX runs_reference ON runs (namespace, source, name, version_id, reference_id)
        WHERE reference_id IS NOT NULL;
    CREATE INDEX runs_due ON runs (due_at, id) WHERE due_at IS NOT NULL;
    CREATE INDEX runs_ready ON runs (namespace, source, name, version_id, pool, rank, id) WHERE rank IS NOT NULL;

    CREATE TABLE history (
        run BLOB NOT NULL,
        page INTEGER NOT NULL,
        entries TEXT NOT NULL,
        PRIMARY KEY (run, page)
    ) STRICT;
",
    "
    ALTER TABLE runs ADD COLUMN parent BLOB;        -- the run that started this one
    ALTER TABLE runs ADD COLUMN slot_key TEXT;      -- set while the run counts for a concurrency key
    CREATE INDEX runs_parent ON runs (parent, id) WHERE parent IS NOT NULL;
    CREATE INDEX runs_slot ON runs (namespace, slot_key) WHERE slot_key IS NOT NULL;

    -- What a run is not to accept a second time.
    CREATE TABLE marks (
        run BLOB NOT NULL,
        mark TEXT NOT NULL,
        PRIMARY KEY (run, mark)
    ) STRICT, WITHOUT ROWID;
",
    "
    CREATE TABLE schedules (
        id BLOB NOT NULL UNIQUE,          -- 16 bytes that sort by creation
        version INTEGER NOT NULL,         -- counts the writes of the row
        namespace TEXT NOT NULL,
        definition_hash TEXT NOT NULL,
        reference_id TEXT,
        created_at INTEGER NOT NULL,      -- ms since the epoch
        due_at INTEGER,                   -- set while the schedule is active
        head TEXT NOT NULL,               -- JSON, all but the input
        input TEXT                        -- JSON; never changes
    ) STRICT;
    CREATE UNIQUE INDEX schedules_definition ON schedules (namespace, definition_hash);
    CREATE UNIQUE INDEX schedules_reference ON schedules (namespace, reference_id) WHERE reference_id IS NOT NULL;
    CREATE INDEX schedules_listed ON schedules (namespace, created_at, id);
    CREATE INDEX schedules_due ON schedules (due_at, id) WHERE due_at IS NOT NULL;
",
    "
    ALTER TABLE runs ADD COLUMN schedule TEXT;      -- the schedule that started it
    ALTER TABLE runs ADD COLUMN ended_at INTEGER;   -- ms since the epoch; set while the run is ended
    UPDATE runs SET schedule = json_extract(head, '$.schedule')
        WHERE CASE WHEN json_valid(head) THEN json_extract(head, '$.schedule') IS NOT NULL END;
    -- When they ended was not kept: they are kept as if they had ended now.
    UPDATE runs SET ended_at = 1000 * CAST(strftime('%s', 'now') AS INTEGER)
        WHERE status IN ('cancelled', 'completed', 'failed');
    -- Changes when a run is created; the others of these change with its status, or never.
    CREATE INDEX runs_workflow ON runs (namespace, source, name, id);
    CREATE INDEX runs_status ON runs (namespace, status, id);
    CREATE INDEX runs_schedule ON runs (schedule, id) WHERE schedule IS NOT NULL;
    CREATE INDEX runs_ended ON runs (ended_at, id) WHERE ended_at IS NOT NULL;

    -- One row per workflow version that was ever used, with its runs by status.
    CREATE TABLE workflows (
        namespace TEXT NOT NULL,
        source TEXT NOT NULL,
        name TEXT NOT NULL,
        version_id TEXT NOT NULL,
        first_seen_at INTEGER NOT NULL,   -- ms since the epoch
        last_run BLOB,                    -- the newest run, which may be gone
        scheduled INTEGER NOT NULL DEFAULT 0,
        queued INTEGER NOT NULL DEFAULT 0,
        running INTEGER NOT NULL DEFAULT 0,
        paused INTEGER NOT NULL DEFAULT 0,
        sleeping INTEGER NOT NULL DEFAULT 0,
        awaiting_event INTEGER NOT NULL DEFAULT 0,
        awaiting_retry INTEGER NOT NULL DEFAULT 0,
        awaiting_child_workflow INTEGER NOT NULL DEFAULT 0,
        stalled INTEGER NOT NULL DEFAULT 0,
        cancelled INTEGER NOT NULL DEFAULT 0,
        completed INTEGER NOT NULL DEFAULT 0,
        failed INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (namespace, source, name, version_id)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO workflows
        SELECT namespace, source, name, version_id,
            coalesce(min(CASE WHEN json_valid(head) THEN json_extract(head, '$.created_at') END), 0), max(id),
            sum(status = 'scheduled'), sum(status = 'queued'), sum(status = 'running'), sum(status = 'paused'),
            sum(status = 'sleeping'), sum(status = 'awaiting_event'), sum(status = 'awaiting_retry'),
            sum(status = 'awaiting_child_workflow'), sum(status = 'stalled'), sum(status = 'cancelled'),
            sum(status = 'completed'), sum(status = 'failed')
        FROM runs GROUP BY namespace, source, name, version_id;
    INSERT INTO workflows (namespace, source, name, version_id, first_seen_at)
        SELECT namespace, coalesce(json_extract(head, '$.workflow.source'), 'user'),
            json_extract(head, '$.workflow.name'), json_extract(head, '$.workflow.versionId'), created_at
        FROM schedules WHERE json_valid(head)
        ON CONFLICT DO UPDATE SET first_seen_at = min(first_seen_at, excluded.first_seen_at);
",
    "
    ALTER TABLE runs ADD COLUMN wait_limit INTEGER; -- set while the run waits for one of so many places of its key
    ALTER TABLE runs ADD COLUMN wait_rank INTEGER;  -- its place among those that wait
    -- A plain claim leaves a run queued: it has no rank and does not wait.
    UPDATE runs SET
        wait_limit = coalesce(CASE WHEN json_valid(head) THEN json_extract(head, '$.concurrency.limit') END, 0),
        wait_rank = coalesce(CASE WHEN json_valid(head) THEN
            10 * (json_extract(head, '$.announce.ready_since')
                + CASE json_extract(head, '$.priority') WHEN 'high' THEN 0 WHEN 'low' THEN 120000 ELSE 60000 END)
            + CASE json_extract(head, '$.priority') WHEN 'high' THEN 0 WHEN 'low' THEN 9 ELSE 4 END END, 0)
        WHERE slot_key IS NOT NULL AND rank IS NULL AND status = 'queued'
            AND coalesce(CASE WHEN json_valid(head) THEN json_extract(head, '$.lease') IS NULL END, true);
    -- Those that hold a place are counted, those that wait are listed limit by limit.
    DROP INDEX runs_slot;
    CREATE INDEX runs_slot ON runs (namespace, slot_key, wait_limit, wait_rank, id) WHERE slot_key IS NOT NULL;
",
];

/// The latest schema.
pub(super) const LATEST: i64 = MIGRATIONS.len() as i64;

/// Why a database cannot be brought to the latest schema.
pub(super) enum SchemaError {
    Foreign(&'static str),
    Newer(i64),
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for SchemaError {
    fn from(error: rusqlite::Error) -> Self {
        SchemaError::Sqlite(error)
    }
}

/// Refuses a database with tables of another program. Changes nothing.
pub(super) fn refuse_foreign(connection: &Connection) -> Result<(), SchemaError> {
    let application: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match application == APPLICATION_ID || tables == 0 {
        true => Ok(()),
        false => Err(SchemaError::Foreign("it belongs to another program")),
    }
}

/// Refuses a database that this version must not touch, and marks an empty one as Aiki's. Leaves its schema to
/// the server.
#[cfg(feature = "keys")]
pub(super) fn claim(connection: &Connection) -> Result<(), SchemaError> {
    refuse_foreign(connection)?;
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > LATEST {
        return Err(SchemaError::Newer(found));
    }
    let application: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    if application != APPLICATION_ID {
        connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    }
    Ok(())
}

/// Brings a database to the latest schema, in one transaction.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), SchemaError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    refuse_foreign(&transaction)?;
    let found: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > LATEST {
        return Err(SchemaError::Newer(found));
    }
    let from = usize::try_from(found).map_err(|_| SchemaError::Foreign("its schema number is negative"))?;
    if from == MIGRATIONS.len() {
        return Ok(());
    }
    for step in &MIGRATIONS[from..] {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", LATEST)?;
    Ok(transaction.commit()?)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use aiki_core::hash::input_hash;
    use aiki_core::name::WorkflowKey;
    use aiki_core::run::head::ConcurrencyKey;
    use aiki_core::run::plan::{self, CreateRun};
    use aiki_core::{Name, Priority, RunId, Timestamp};

    use super::*;
    use crate::storage::{Wait, wait};

    #[test]
    fn a_database_of_any_older_schema_is_brought_to_the_latest() {
        for found in 1..MIGRATIONS.len() {
            let mut database = Connection::open_in_memory().unwrap();
            MIGRATIONS[..found].iter().for_each(|step| database.execute_batch(step).unwrap());
            database.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
            database.pragma_update(None, "user_version", found as i64).unwrap();
            assert!(migrate(&mut database).is_ok(), "from {found}");
            let version: i64 = database.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
            let schedules: i64 = database.query_row("SELECT count(*) FROM schedules", [], |row| row.get(0)).unwrap();
            assert_eq!((version, schedules), (LATEST, 0), "from {found}");
        }
    }

    #[test]
    fn a_run_that_waits_in_an_older_database_keeps_its_place_and_one_that_a_plain_worker_holds_does_not_wait() {
        let mut database = Connection::open_in_memory().unwrap();
        let older = MIGRATIONS.len() - 1;
        MIGRATIONS[..older].iter().for_each(|step| database.execute_batch(step).unwrap());
        database.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
        database.pragma_update(None, "user_version", older as i64).unwrap();
        let limited = ConcurrencyKey { key: "k".into(), limit: 3 };
        let (now, namespace) = (Timestamp::from_millis(1_772_323_200_123), Name::new("n"));
        let mut expected = Vec::new();
        for (at, priority) in (1..).zip([Priority::High, Priority::Normal, Priority::Low, Priority::Low]) {
            let request = CreateRun { concurrency: Some(limited.clone()), priority, ..request() };
            let mut head = plan::create(&request, RunId::from_bits(at << 24), &namespace, now, &mut Vec::new());
            if at < 4 {
                plan::hold_back(&mut head);
            } else {
                plan::plain::claim_plainly(&mut head, Duration::from_secs(9), now, &mut Vec::new());
            }
            let text = serde_json::to_string(&head).unwrap();
            insert(&database, head.id, &text);
            let rank = |wait: Wait| i64::try_from(wait.rank.as_u64()).unwrap();
            expected.push((wait(&head).map(|wait| i64::from(wait.limit)), wait(&head).map(rank)));
        }
        // One that cannot be read waits, and is not let in.
        insert(&database, RunId::from_bits(9 << 24), "{");
        expected.push((Some(0), Some(0)));
        assert!(migrate(&mut database).is_ok());
        let mut select = database.prepare("SELECT wait_limit, wait_rank FROM runs ORDER BY id").unwrap();
        let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        assert_eq!(rows.collect::<Result<Vec<_>, _>>().unwrap(), expected);
    }

    fn request() -> CreateRun {
        CreateRun::new(WorkflowKey::user("w", "1"), None, input_hash(None).unwrap())
    }

    fn insert(database: &Connection, id: RunId, head: &str) {
        let insert =
            "INSERT INTO runs (id, version, namespace, source, name, version_id, pool, status, pages, head, tail,
                                        slot_key)
                      VALUES (?1, 1, 'n', 'user', 'w', '1', '', 'queued', 0, ?2, '', 'k')";
        database.execute(insert, rusqlite::params![id.to_bytes(), head]).unwrap();
    }
}
